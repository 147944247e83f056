package streams

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// sweepTTLs is after how many lease times an entry that is pending for somebody
// else is taken over: the owner of a partition is its only reader, so that
// somebody is an operator or a mistake.
const sweepTTLs = 3

// Take reads at most max new entries of about maxBytes, one at least where there are any and
// however large it is; 0 does not bound the bytes. None is no error. Where somebody else had entries
// delivered since the last Take, it takes those over and returns them first, so that the
// order holds. Once in a while it also looks for entries that are pending for a consumer
// other than this one, and does the same.
func (l *Lease) Take(ctx context.Context, max int, maxBytes int64) ([]Entry, error) {
	if max < 1 {
		return nil, nil
	}
	var out []Entry
	bytes := l.group.takeBytes(maxBytes)
	err := l.ensured(ctx, func() (err error) {
		if out, err = l.sweep(ctx, max, bytes); err != nil || len(out) > 0 {
			return err
		}
		for behind := true; behind; {
			if out, err = l.catchUp(ctx, max, bytes); err != nil || len(out) > 0 {
				return err
			}
			if out, behind, err = l.takeNew(ctx, max, bytes); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// takeNew has new entries delivered, which were read before. Where somebody else had some
// delivered since the last time, it takes those over instead and reports that this owner
// is behind.
func (l *Lease) takeNew(ctx context.Context, max, maxBytes int) (_ []Entry, behind bool, _ error) {
	g := l.group
	l.mu.Lock()
	last := l.last
	l.mu.Unlock()
	var read []fed
	if last != "" {
		var err error
		if read, err = g.feed.after(ctx, l.partition, last, min(max, maxIDs), maxBytes); err != nil {
			return nil, false, err
		}
	}
	args := make([]any, 0, 3+len(read))
	args = append(args, g.name, g.consumer, last)
	for i := range read {
		args = append(args, read[i].id)
	}
	reply, err := l.fenced(ctx, takeScript, []string{g.layout.Events(l.partition), g.layout.Counts(l.partition, g.name)}, args...)
	if err != nil {
		return nil, false, err
	}
	if len(reply) < 3 {
		return nil, false, fmt.Errorf("streams: take: answer of an unknown form")
	}
	now, _ := reply[0].(string) // the script answers text
	if number(reply[2]) == 1 {
		if last == "" {
			l.caughtUp(now)
			return nil, true, nil
		}
		return nil, true, l.overtaken(ctx, now)
	}
	gone := texts(reply[3:])
	if len(gone) > 0 {
		// The stream is another than the one that was read.
		g.feed.forget(l.partition)
	}
	l.mu.Lock()
	l.last, l.replays = now, number(reply[1])
	l.mu.Unlock()
	out := make([]Entry, 0, len(read))
	for i := range read {
		e := &read[i]
		if len(gone) > 0 && gone[0] == e.id {
			gone = gone[1:]
			continue
		}
		out = append(out, Entry{ID: e.id, Partition: l.partition, Record: e.record, Err: e.err})
		if e.err != nil {
			g.m.unreadable.Inc()
		}
	}
	g.m.taken.Add(float64(len(out)))
	if err := l.mark(ctx, out); err != nil {
		return nil, false, err
	}
	return out, len(out) == 0 && len(read) > 0, nil
}

// overtaken takes over what others had delivered behind this owner's back, up to last.
func (l *Lease) overtaken(ctx context.Context, last string) error {
	n, _, err := l.adoptAll(ctx)
	if n > 0 {
		l.group.log.Warn("somebody else reads in this group: its entries are taken over", "partition", l.partition, "entries", n)
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.upTo = last
	l.mu.Unlock()
	return nil
}

// catchUp reads what others had delivered in the meantime, and is ours now.
func (l *Lease) catchUp(ctx context.Context, max, maxBytes int) ([]Entry, error) {
	l.mu.Lock()
	from, upTo := l.last, l.upTo
	l.mu.Unlock()
	if upTo == "" {
		return nil, nil
	}
	out, _, err := l.backlog(ctx, nextID(from), max, maxBytes)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(out) > 0 {
		l.last = out[len(out)-1].ID
	} else {
		l.last, l.upTo = upTo, ""
	}
	return out, nil
}

// sweep adopts entries that have been pending for another consumer for long and
// returns them. What it adopted and could not return it returns the next time.
func (l *Lease) sweep(ctx context.Context, max, maxBytes int) ([]Entry, error) {
	g := l.group
	if l.due(g.o.Now(), sweepTTLs*g.o.LeaseTTL) {
		if err := l.sweepForeign(ctx); err != nil {
			return nil, err
		}
	}
	ids := l.takeFound(max)
	var out []Entry
	bytes := 0
	for i, id := range ids {
		if bytes > 0 && maxBytes > 0 && bytes >= maxBytes {
			l.putFound(ids[i:])
			break
		}
		es, n, err := l.backlog(ctx, id, 1, maxBytes)
		if err != nil {
			l.putFound(ids)
			return nil, err
		}
		if len(es) == 1 && es[0].ID == id {
			out = append(out, es[0])
			bytes += n
		}
	}
	return out, nil
}

func (l *Lease) sweepForeign(ctx context.Context) error {
	g := l.group
	idle := (sweepTTLs * g.o.LeaseTTL).Milliseconds()
	for start := "-"; start != ""; {
		page, err := l.adoptPage(ctx, start, adoptPage, idle)
		l.addFound(page.moved)
		if err != nil {
			return err
		}
		start = page.next
	}
	reply, err := l.fenced(ctx, janitorScript, []string{g.layout.Events(l.partition)},
		g.name, g.consumer, g.o.ConsumerIdle.Milliseconds())
	if err != nil {
		return err
	}
	if gone := texts(reply); len(gone) > 0 {
		g.log.Info("idle consumers left the group", "partition", l.partition, "consumers", gone)
	}
	return nil
}

// Backlog reads this consumer's own pending entries after the entry id "after"
// ("" from the first), oldest first, bounded as by Take.
func (l *Lease) Backlog(ctx context.Context, after string, max int, maxBytes int64) ([]Entry, error) {
	if max < 1 {
		return nil, nil
	}
	var out []Entry
	err := l.ensured(ctx, func() (err error) {
		out, _, err = l.backlog(ctx, nextID(after), max, l.group.takeBytes(maxBytes))
		return err
	})
	return out, err
}

// backlog also says how many bytes it brings.
func (l *Lease) backlog(ctx context.Context, start string, max, maxBytes int) (_ []Entry, bytes int, _ error) {
	g := l.group
	reply, err := l.fenced(ctx, backlogScript,
		[]string{g.layout.Events(l.partition), g.layout.Attempts(l.partition, g.name)},
		g.name, g.consumer, start, min(g.feed.count(l.partition, max, maxBytes), maxIDs))
	if err != nil {
		return nil, 0, err
	}
	if len(reply)%2 == 1 {
		return nil, 0, fmt.Errorf("streams: backlog: answer of an unknown form")
	}
	ids := make([]string, len(reply)/2)
	for i := range ids {
		ids[i], _ = reply[2*i].(string) // an id is always text
	}
	there, n, err := g.feed.entries(ctx, l.partition, ids, maxBytes)
	if err != nil {
		return nil, 0, err
	}
	out := make([]Entry, 0, n)
	for i, id := range ids[:n] {
		size := there[id].bytes
		if len(out) > 0 && maxBytes > 0 && bytes+size > maxBytes {
			break
		}
		bytes += size
		e := Entry{ID: id, Partition: l.partition, Attempts: int(number(reply[2*i+1]))}
		if read, ok := there[id]; ok {
			e.Record, e.Err = read.record, read.err
		} else {
			e.Gone = true
			g.m.gone.Inc()
		}
		if e.Err != nil {
			g.m.unreadable.Inc()
		}
		out = append(out, e)
	}
	return out, bytes, l.mark(ctx, out)
}

// Wait returns when the partition may have entries after the entry id "after" and after
// those that were taken, after the Block time, or when ctx ends. It moves nothing.
func (l *Lease) Wait(ctx context.Context, after string) error {
	l.mu.Lock()
	from := laterID(after, l.last)
	l.mu.Unlock()
	return l.group.feed.wait(ctx, l.partition, from, l.group.write.plain.Load())
}

// due reports whether it is time to sweep and sets the next time. The first time
// comes after one interval: a new owner has adopted everything.
func (l *Lease) due(now time.Time, every time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.sweepAt.IsZero()
	if !first && now.Before(l.sweepAt) {
		return false
	}
	l.sweepAt = now.Add(every)
	return !first
}

func (l *Lease) addFound(ids []string) {
	if len(ids) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.found = append(l.found, ids...)
}

// putFound puts back what takeFound returned.
func (l *Lease) putFound(ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.found = append(slices.Clone(ids), l.found...)
}

func (l *Lease) takeFound(max int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(max, len(l.found))
	ids := l.found[:n:n]
	l.found = l.found[n:]
	return ids
}
