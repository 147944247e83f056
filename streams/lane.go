package streams

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams/event"
)

// What one script call carries at most, one record at least: while it runs, Redis
// serves nobody else. 256 records of 2.2 KB were measured to take 7 ms on a busy core;
// a call of 64 costs as much a record, but with fsync each call has a sync of its own.
const (
	callRecords = 256
	callBytes   = 1 << 20
)

// lane sends one batch after another. What it keeps between them is memory.
type lane struct {
	w          *Writer
	batch      []*call
	waiting    []*record // to be sent
	calls      []scriptCall
	cmds       []redis.Cmder
	parts      []portion
	at         map[*section]int // in parts
	generation string           // of the layout, as it was known when the calls were built
}

// portion is the records of a script call that are of one section.
type portion struct {
	section *section
	records []*record
}

// scriptCall is one call of append.lua and the records that it answers for, in order.
type scriptCall struct {
	cmd     *redis.SliceCmd
	args    []any
	records []*record
}

// appending marks the context of an append, so that a connection that is opened for it
// is not used where the server does not keep the promise.
type appending struct{}

// lane sends one batch after another until the writer has stopped.
func (w *Writer) lane(ctx context.Context) {
	ctx = context.WithValue(ctx, appending{}, true)
	l := lane{w: w, at: make(map[*section]int)}
	for {
		if l.batch = w.next(l.batch[:0]); len(l.batch) == 0 {
			return
		}
		for _, c := range l.batch {
			// Nobody waits for it any more, and nobody was told that it is kept.
			if c.ctx.Err() == nil {
				for i := range c.records {
					l.waiting = append(l.waiting, &c.records[i])
				}
			}
		}
		l.send(ctx, false)
		l.send(ctx, l.second())
		for i, c := range l.batch {
			w.finish(c)
			l.batch[i] = nil
		}
		clear(l.waiting[:cap(l.waiting)]) // bodies shall not live until the next large batch
		l.waiting = l.waiting[:0]
	}
}

// send sends what waits, at most MaxBatch records a round trip, and leaves each one's
// outcome in it.
func (l *lane) send(ctx context.Context, withText bool) {
	for records := l.waiting; len(records) > 0; {
		if err := l.w.allowed(); err != nil {
			for _, r := range records {
				r.err = err
			}
			return
		}
		n := min(len(records), l.w.o.MaxBatch)
		start := time.Now()
		l.generation = l.w.generation()
		l.build(ctx, l.unknown(ctx, records[:n]), withText)
		l.exchange(ctx)
		l.w.m.seconds.Observe(time.Since(start).Seconds())
		l.w.m.batch.Observe(float64(n))
		l.read()
		records = records[n:]
	}
}

// build makes script calls of records: one, unless it would carry too much or the
// partitions have to be told apart.
func (l *lane) build(ctx context.Context, records []*record, withText bool) {
	for len(records) > 0 {
		n, bytes := 0, 0
		for n < min(len(records), callRecords) {
			if bytes += records[n].size(); n > 0 && bytes > callBytes {
				break
			}
			n++
		}
		for _, r := range records[:n] {
			i, known := l.at[r.section]
			if !known {
				i = len(l.parts)
				l.at[r.section] = i
				l.parts = longer(l.parts)
				l.parts[i].section = r.section
			}
			l.parts[i].records = append(l.parts[i].records, r)
		}
		if l.w.apart.Load() {
			for i := range l.parts {
				l.call(ctx, l.parts[i:i+1], withText)
			}
		} else {
			l.call(ctx, l.parts, withText)
		}
		for i := range l.parts {
			clear(l.parts[i].records)
			l.parts[i].records = l.parts[i].records[:0]
		}
		l.parts = l.parts[:0]
		clear(l.at)
		records = records[n:]
	}
}

// call adds the script call that appends the records of parts. What an argument refers
// to is the record itself, so that the many texts are not each allocated again.
func (l *lane) call(ctx context.Context, parts []portion, withText bool) {
	l.calls = longer(l.calls)
	c := &l.calls[len(l.calls)-1]
	if withText {
		c.args = append(c.args, "eval", appendScript.text)
	} else {
		c.args = append(c.args, "evalsha", appendScript.sha)
	}
	c.args = append(c.args, len(parts)*(2+seenBuckets))
	for _, p := range parts {
		c.args = append(c.args, p.section.keys...)
	}
	c.args = append(c.args, len(parts), &l.generation)
	for _, p := range parts {
		c.args = append(c.args, p.section.window, len(p.records))
		for _, r := range p.records {
			c.args = append(c.args, r.mark[:], undecodable[r.undecodable])
			for i := range r.wire.Values {
				c.args = append(c.args, &r.wire.Values[i])
			}
			c.args = append(c.args, &r.wire.BodyName, r.wire.Body)
		}
		c.records = append(c.records, p.records...)
	}
	c.cmd = redis.NewSliceCmd(ctx, c.args...)
	l.cmds = append(l.cmds, c.cmd)
}

// undecodable is the argument of append.lua that makes it count an event apart.
var undecodable = map[bool]any{true: "1", false: "0"}

// exchange sends the calls in one round trip. Each one keeps its own error.
func (l *lane) exchange(ctx context.Context) {
	if len(l.cmds) == 0 {
		return
	}
	if len(l.cmds) == 1 {
		_ = l.w.rdb.Process(ctx, l.cmds[0]) // the command keeps it
		return
	}
	pipe := l.w.rdb.Pipeline()
	_ = pipe.BatchProcess(ctx, l.cmds...) // it only queues
	_, _ = pipe.Exec(ctx)                 // says what the first failed command says
}

// read gives each record what its call answered, and forgets the calls.
func (l *lane) read() {
	for i := range l.calls {
		c := &l.calls[i]
		answers, err := c.cmd.Result()
		if err == nil && len(answers) != len(c.records) {
			err = errAnswer
		}
		for j, r := range c.records {
			r.err = err
			if err != nil {
				continue
			}
			switch answer := answers[j].(type) {
			case error:
				r.err = answer
			case int64:
				r.outcome = event.Appended(answer) //nolint:gosec // finish checks that it is one of the three
			default:
				r.err = errAnswer
			}
		}
		clear(c.args)
		clear(c.records)
		*c = scriptCall{args: c.args[:0], records: c.records[:0]}
	}
	l.calls = l.calls[:0]
	clear(l.cmds)
	l.cmds = l.cmds[:0]
}

// second leaves those records waiting that are worth sending once more: those of a
// call that the server had no script for, or would not take together, and those whose
// answer did not come, which the marks make harmless if they had been appended. A
// server that cannot be reached or that refuses is not asked again: the caller knows
// better when to. It reports whether the script's text has to go with them.
func (l *lane) second() (withText bool) {
	again := l.waiting[:0]
	looked, renewed := false, false
	for _, r := range l.waiting {
		switch {
		case r.err == nil || r.call.ctx.Err() != nil:
			continue
		case redis.HasErrorPrefix(r.err, "NOSCRIPT"):
			withText = true
		case redis.HasErrorPrefix(r.err, "CROSSSLOT"):
			l.w.apart.Store(true)
		case isClosed(r.err):
			// Open, perhaps, for who knows how often the number was changed.
			if !looked {
				looked, renewed = true, l.w.renew(r.call.ctx, l.generation)
			}
			if !renewed {
				continue
			}
		case !unanswered(r.err):
			continue
		}
		again = append(again, r)
	}
	l.waiting = again
	l.w.m.resent.Add(float64(len(again)))
	return withText
}

// unanswered reports whether a command may have run although it failed: the
// connection broke, or the answer took too long. An answer of the server, or a
// connection that never stood, tells that it did not.
func unanswered(err error) bool {
	var answer redis.Error
	if errors.As(err, &answer) || errors.Is(err, ErrDurability) || errors.Is(err, redis.ErrClosed) || errors.Is(err, redis.ErrPoolTimeout) {
		return false
	}
	var op *net.OpError
	return !errors.As(err, &op) || op.Op != "dial"
}

// finish counts what became of a call and releases its caller.
func (w *Writer) finish(c *call) {
	for i := range c.records {
		r := &c.records[i]
		err := r.err
		switch {
		case err != nil:
			w.m.failed.Inc()
		case r.outcome == event.New:
			w.m.fresh.Inc()
		case r.outcome == event.Duplicate:
			w.m.duplicate.Inc()
		case r.outcome == event.Conflicting:
			w.m.conflict.Inc()
		default:
			w.m.failed.Inc()
			// Where the caller had gone, the lane did not send it.
			if err = context.Cause(c.ctx); err == nil {
				err = errNotAnswered
			}
		}
		if isClosed(err) {
			err = ErrClosed
		}
		if err != nil && c.err == nil {
			c.err = unavailable(fmt.Sprintf("streams: append to %s", r.section.keys[0]), err)
		}
	}
	close(c.done)
}

// longer is s with one more element, which may hold memory from when s was as long.
func longer[T any](s []T) []T {
	if len(s) < cap(s) {
		return s[:len(s)+1]
	}
	var none T
	return append(s, none)
}
