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

// lane sends one batch after another until the writer has stopped.
func (w *Writer) lane(ctx context.Context) {
	var (
		batch []*call
		cmds  []redis.Cmder
	)
	for {
		if batch = w.next(batch[:0]); len(batch) == 0 {
			return
		}
		cmds = cmds[:0]
		for _, c := range batch {
			// Nobody waits for it any more, and nobody was told that it is kept.
			if c.ctx.Err() == nil {
				for _, cmd := range c.cmds {
					cmds = append(cmds, cmd)
				}
			}
		}
		w.send(ctx, cmds)
		cmds = w.second(cmds[:0], batch)
		w.send(ctx, cmds)
		for i, c := range batch {
			w.finish(c)
			batch[i] = nil
		}
		clear(cmds[:cap(cmds)]) // bodies shall not live until the next large batch
	}
}

// appending marks the context of an append, so that a connection that is opened for it
// is not used where the server does not keep the promise.
type appending struct{}

// send sends commands in pipelines of at most MaxBatch and leaves each one's
// outcome in it.
func (w *Writer) send(ctx context.Context, cmds []redis.Cmder) {
	for len(cmds) > 0 {
		n := min(len(cmds), w.o.MaxBatch)
		if err := w.allowed(); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return
		}
		pipe := w.rdb.Pipeline()
		_ = pipe.BatchProcess(ctx, cmds[:n]...) // it only queues
		start := time.Now()
		_, _ = pipe.Exec(context.WithValue(ctx, appending{}, true)) // says what the first failed command says; all are looked at one by one
		w.m.seconds.Observe(time.Since(start).Seconds())
		w.m.batch.Observe(float64(n))
		cmds = cmds[n:]
	}
}

// second collects the commands worth sending once more: those the server had no
// script for, with its source, and those whose answer did not come, which the
// mark makes harmless if they had run. A server that cannot be reached or that
// refuses is not asked again: the caller knows better when to.
func (w *Writer) second(cmds []redis.Cmder, batch []*call) []redis.Cmder {
	for _, c := range batch {
		if c.ctx.Err() != nil {
			continue
		}
		for _, cmd := range c.cmds {
			switch err := cmd.Err(); {
			case err == nil:
			case redis.HasErrorPrefix(err, "NOSCRIPT"):
				args := cmd.Args()
				args[0], args[1] = "eval", appendScript.text
				cmds = append(cmds, cmd)
			case unanswered(err):
				cmds = append(cmds, cmd)
			}
		}
	}
	w.m.resent.Add(float64(len(cmds)))
	return cmds
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
	for _, cmd := range c.cmds {
		err := cmd.Err()
		switch outcome := event.Appended(cmd.Val()); { //nolint:gosec // what is none of the three is an error below
		case err != nil:
			w.m.failed.Inc()
		case outcome == event.New:
			w.m.fresh.Inc()
		case outcome == event.Duplicate:
			w.m.duplicate.Inc()
		case outcome == event.Conflicting:
			w.m.conflict.Inc()
		default:
			w.m.failed.Inc()
			// Where the caller had gone, the lane did not send it.
			if err = context.Cause(c.ctx); err == nil {
				err = errNotAnswered
			}
		}
		if err != nil && c.err == nil {
			c.err = unavailable(fmt.Sprintf("streams: append to %s", cmd.Args()[3]), err)
		}
	}
	close(c.done)
}
