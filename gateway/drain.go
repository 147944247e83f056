package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/paybell/paybell/gateway/journal"
	"github.com/paybell/paybell/streams/event"
)

// How the journal is emptied.
const (
	drainPage = 512
	// drainCall bounds the records of one append, drainTimeout its time.
	drainCall    = 128
	drainTimeout = 10 * time.Second
	// Between tries: full jitter below a bound that doubles.
	drainWait    = 50 * time.Millisecond
	drainWaitMax = 5 * time.Second
)

// item is a payload of the journal that can be read.
type item struct {
	entry     journal.Entry
	window    time.Duration
	record    event.Record
	partition int
}

// drain empties the journal into the stream, page by page, for as long as ctx lives.
func (k *Keeper) drain(ctx context.Context) error {
	for {
		n, err := k.drainOnce(ctx)
		if err != nil || ctx.Err() != nil {
			return unlessEnded(ctx, err)
		}
		if n > 0 {
			continue
		}
		if !k.backlog.mend(k.empty) {
			_ = k.pause(ctx, drainWait) // ctx is looked at above
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		}
	}
}

// unlessEnded drops an error that comes of having been told to stop.
func unlessEnded(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

func (k *Keeper) empty() bool { return k.journal.Stats().Payloads == 0 }

// Drain empties the journal into the stream and returns, for a gateway that does not
// come back. progress, if given, is told after every page how many payloads are out.
// Run must not run.
func (k *Keeper) Drain(ctx context.Context, progress func(drained int)) error {
	for total := 0; ; {
		n, err := k.drainOnce(ctx)
		if err != nil || n == 0 {
			return err
		}
		total += n
		if progress != nil {
			progress(total)
		}
	}
}

// drainOnce brings one page to the stream and releases it; n is its size. A page
// that was brought in part, because the process was killed or ctx ended, comes again
// whole, which the dedup marks make harmless.
func (k *Keeper) drainOnce(ctx context.Context) (n int, err error) {
	entries, err := k.journal.Read(k.journal.Released()+1, drainPage)
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	if err := k.bring(ctx, entries); err != nil {
		return 0, err
	}
	if err := k.journal.Release(entries[len(entries)-1].Position); err != nil {
		// The next process may bring the page again; this one goes on behind it.
		k.d.Logger.Error("note what was drained", "err", err)
	}
	return len(entries), nil
}

// bring puts entries into the stream, those of one ordering key one after another,
// and returns when all of them are there or set aside.
func (k *Keeper) bring(ctx context.Context, entries []journal.Entry) error {
	for _, wave := range waves(k.items(entries)) {
		wait := drainWait
		for first := true; len(wave) > 0; first = false {
			if !first {
				if err := k.pause(ctx, wait); err != nil {
					return err
				}
				wait = min(2*wait, drainWaitMax)
			}
			before := len(wave)
			if wave = k.appendWave(ctx, wave); len(wave) < before {
				wait = drainWait // it goes on
			}
		}
	}
	return nil
}

// items reads entries. What cannot be read is set aside: it must not hold up the rest.
func (k *Keeper) items(entries []journal.Entry) []item {
	items := make([]item, 0, len(entries))
	for _, e := range entries {
		if e.Err != nil {
			// Its segment keeps the bytes: the journal moves it to the quarantine.
			k.backlog.doubtful.Store(true)
			k.lose(e, e.Err)
			continue
		}
		window, r, err := decodePayload(e.Payload)
		if err != nil {
			if p, ok := k.partitionOf(e); ok {
				k.uncount(p)
			}
			k.lose(e, errors.Join(err, k.journal.SetAside(e)))
			continue
		}
		items = append(items, item{e, window, r, k.d.Partition(r.Event.OrderingKey())})
	}
	return items
}

// lose says that an event was accepted and will not reach the stream by itself.
func (k *Keeper) lose(e journal.Entry, err error) {
	k.m.setAside.Inc()
	k.d.Logger.Error("an accepted event cannot be brought to the stream; it is in the journal's quarantine",
		"position", uint64(e.Position), "at", e.At, "err", err)
}

// waves splits items so that every ordering key is at most once in a wave and its
// items stand in their order. A wave can be appended in any order and in part: what
// is refused in the middle of a pipeline would otherwise be overtaken.
func waves(items []item) [][]item {
	var out [][]item
	depth := make(map[string]int, len(items))
	for _, it := range items {
		key := it.record.Event.OrderingKey()
		d := depth[key]
		depth[key] = d + 1
		if d == len(out) {
			out = append(out, nil)
		}
		out[d] = append(out[d], it)
	}
	return out
}

// appendWave appends a wave, in calls that run side by side, and returns what is
// still to be appended.
func (k *Keeper) appendWave(ctx context.Context, wave []item) []item {
	var (
		mu   sync.Mutex
		left []item
		wg   sync.WaitGroup
	)
	for _, call := range calls(wave) {
		wg.Go(func() {
			rest := k.appendCall(ctx, call)
			mu.Lock()
			defer mu.Unlock()
			left = append(left, rest...)
		})
	}
	wg.Wait()
	return left
}

// calls groups items by window, at most drainCall in each.
func calls(items []item) [][]item {
	open := make(map[time.Duration]int)
	var out [][]item
	for _, it := range items {
		i, ok := open[it.window]
		if !ok || len(out[i]) == drainCall {
			i = len(out)
			open[it.window], out = i, append(out, nil)
		}
		out[i] = append(out[i], it)
	}
	return out
}

// appendCall appends items of one window and returns those to be tried again. Where
// one of them can never be taken, each is tried alone to find it.
func (k *Keeper) appendCall(ctx context.Context, items []item) []item {
	records := make([]event.Record, len(items))
	for i := range items {
		records[i] = items[i].record
	}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	_, err := k.d.Stream.Append(ctx, items[0].window, records)
	switch {
	case err == nil:
		k.there(items)
		return nil
	case !k.d.Permanent(err):
		k.m.failedDrains.Inc()
		return items
	case len(items) > 1:
		var left []item
		for i := range items {
			left = append(left, k.appendCall(ctx, items[i:i+1])...)
		}
		return left
	}
	if notWritten := k.journal.SetAside(items[0].entry); notWritten != nil {
		k.d.Logger.Error("set aside what the stream can never take", "err", notWritten)
		return items // rather held up than lost
	}
	k.lose(items[0].entry, err)
	k.uncount(items[0].partition)
	return nil
}

// there counts items that the stream has confirmed.
func (k *Keeper) there(items []item) {
	k.backlog.away.Store(false)
	k.m.drained.Add(float64(len(items)))
	for i := range items {
		k.uncount(items[i].partition)
	}
}

// uncount lets what comes later go to the stream again. In the mode always nothing
// was counted.
func (k *Keeper) uncount(partition int) {
	if k.o.Mode != JournalAlways {
		k.backlog.leave(partition)
	}
}

// partitionOf is that of an entry, as far as its payload tells.
func (k *Keeper) partitionOf(e journal.Entry) (int, bool) {
	key, ok := payloadKey(e.Payload)
	if e.Err != nil || !ok {
		return 0, false
	}
	return k.d.Partition(key), true
}

// countBacklog counts what an earlier process left.
func (k *Keeper) countBacklog() error {
	for from := k.journal.Released() + 1; ; {
		entries, err := k.journal.Read(from, drainPage)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if p, ok := k.partitionOf(e); ok {
				k.backlog.add([]int{p}, 1)
			}
		}
		from = entries[len(entries)-1].Position + 1
	}
}

// pause waits up to a bound, by chance, so that gateways do not come back in step.
func (k *Keeper) pause(ctx context.Context, bound time.Duration) error {
	t := time.NewTimer(rand.N(bound)) //nolint:gosec // jitter
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
