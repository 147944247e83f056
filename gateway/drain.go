package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
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
	// drainTries is how often events are offered, none of them being taken, before
	// those of other partitions pass them by.
	drainTries     = 3
	tellStuckEvery = time.Minute
	drainGivesUp   = time.Minute
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
	d := newDrainer(k)
	for {
		n, err := d.step(ctx)
		if err != nil || ctx.Err() != nil {
			return unlessEnded(ctx, err)
		}
		if n > 0 {
			continue
		}
		if !k.backlog.mend(d.caughtUp, d.stuck) {
			_ = k.pause(ctx, drainWait) // ctx is looked at above
			continue
		}
		d.rest(ctx)
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

// Drain empties the journal into the stream and returns, for a gateway that does not
// come back. progress, if given, is told after every page how many payloads are out.
// What the stream has not taken for a minute stays where it is: the error says whose it
// is and why, and Drain may be called again. What could not be read, or can never be
// taken, is in the journal's quarantine: then the error is ErrSetAside. Run must not run.
func (k *Keeper) Drain(ctx context.Context, progress func(drained int)) error {
	d := newDrainer(k)
	for total := k.journal.Stats().Payloads; ; {
		n, err := d.step(ctx)
		switch {
		case err != nil:
			return err
		case n > 0:
			if progress != nil {
				progress(total - k.journal.Stats().Payloads - int(k.lost.Load()))
			}
		case len(d.stuck) == 0:
			if n := k.lost.Load(); n > 0 {
				return fmt.Errorf("%w: %d", ErrSetAside, n)
			}
			return nil
		case k.d.Now().Sub(d.since) > drainGivesUp:
			return d.explain()
		default:
			d.rest(ctx)
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), d.explain())
			}
		}
	}
}

// drainer is how far the events of a journal have come. A partition that does not take
// its events holds up no other: they stay in the journal, the first of them is offered
// again from time to time, and what comes later in that partition waits behind them. It
// is owned by one goroutine.
type drainer struct {
	*Keeper
	// seen is the last position that was read. Of what is not released up to there,
	// done has what is in the stream or lost; the rest is of stuck partitions.
	seen journal.Position
	done map[journal.Position]struct{}
	// stuck has the first event of each partition that does not take its events.
	stuck map[int]journal.Position
	// again is when the stuck ones are offered again, wait the bound of the next pause.
	again time.Time
	wait  time.Duration
	// since is when the first of them got stuck, told when that was last said.
	since, told time.Time
}

func newDrainer(k *Keeper) *drainer {
	return &drainer{
		Keeper: k, seen: k.journal.Released(),
		done: make(map[journal.Position]struct{}), stuck: make(map[int]journal.Position),
	}
}

// step offers what is stuck if it is time to, brings the next page to the stream and
// releases what nothing waits for any more; n is the page's size. What was brought and
// not released comes again after a kill, which the dedup marks make harmless.
func (d *drainer) step(ctx context.Context) (n int, err error) {
	if len(d.stuck) > 0 && !d.d.Now().Before(d.again) {
		if err := d.offer(ctx); err != nil {
			return 0, err
		}
	}
	entries, err := d.journal.Read(d.seen+1, drainPage)
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	n, last := len(entries), entries[len(entries)-1].Position
	if err := d.bring(ctx, entries, nil); err != nil {
		return 0, err
	}
	d.seen = last
	d.release(last)
	return n, nil
}

// bring puts entries into the stream, those of one ordering key one after another, and
// notes which partitions do not take theirs. Those of partitions that are stuck are
// passed over; with only, those of all others too. It takes entries over.
func (d *drainer) bring(ctx context.Context, entries []journal.Entry, only map[int]bool) error {
	entries = slices.DeleteFunc(entries, func(e journal.Entry) bool { _, done := d.done[e.Position]; return done })
	items := d.items(entries)
	for _, e := range entries {
		d.done[e.Position] = struct{}{} // what is no item is lost
	}
	for _, it := range items {
		delete(d.done, it.entry.Position)
	}
	items = slices.DeleteFunc(items, func(it item) bool {
		_, stuck := d.stuck[it.partition]
		return stuck || only != nil && !only[it.partition]
	})
	failed := make(map[int]bool)
	for _, wave := range waves(items) {
		wave = slices.DeleteFunc(wave, func(it item) bool { return failed[it.partition] })
		left, err := d.insist(ctx, wave, drainTries)
		for _, it := range wave {
			d.done[it.entry.Position] = struct{}{}
		}
		for _, it := range left {
			delete(d.done, it.entry.Position)
			failed[it.partition] = true
		}
		if err != nil {
			return err
		}
	}
	for _, it := range items {
		if _, done := d.done[it.entry.Position]; !done {
			d.stick(it)
		}
	}
	return nil
}

// stick notes that a partition does not take an event, unless it did not take one
// before that.
func (d *drainer) stick(it item) {
	if _, stuck := d.stuck[it.partition]; stuck {
		return
	}
	if len(d.stuck) == 0 {
		d.since, d.wait = d.d.Now(), drainWait
		d.again = d.since.Add(d.wait)
	}
	d.stuck[it.partition] = it.entry.Position
	d.m.stuck.Set(float64(len(d.stuck)))
}

// offer tries the first event of every stuck partition, and where it is taken brings
// the rest of that partition as far as the journal was read.
func (d *drainer) offer(ctx context.Context) error {
	var first []item
	for _, at := range d.stuck {
		if _, lost := d.done[at]; lost {
			continue // it has become unreadable since
		}
		entries, err := d.journal.Read(at, 1)
		if err != nil {
			return err
		}
		first = append(first, d.items(entries)...)
	}
	left := d.appendWave(ctx, first)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	taken, from := make(map[int]bool), d.seen
	for p, at := range d.stuck {
		if slices.ContainsFunc(left, func(it item) bool { return it.partition == p }) {
			continue
		}
		d.done[at] = struct{}{}
		delete(d.stuck, p)
		taken[p], from = true, min(from, at)
	}
	d.m.stuck.Set(float64(len(d.stuck)))
	d.wait = min(2*d.wait, drainWaitMax)
	if len(taken) > 0 {
		d.since, d.told = d.d.Now(), time.Time{}
		if err := d.catchUp(ctx, from, taken); err != nil {
			return err
		}
		if !d.allStuck(taken) {
			d.wait = drainWait
		}
	} else if now := d.d.Now(); now.Sub(d.told) > tellStuckEvery {
		d.told = now
		d.d.Logger.Warn("events wait in the journal", "err", d.explain())
	}
	d.again = d.d.Now().Add(rand.N(d.wait)) //nolint:gosec // jitter
	return nil
}

// catchUp brings what partitions owe from a position up to what was seen.
func (d *drainer) catchUp(ctx context.Context, from journal.Position, partitions map[int]bool) error {
	for from <= d.seen && !d.allStuck(partitions) {
		entries, err := d.journal.Read(from, drainPage)
		if err != nil || len(entries) == 0 {
			return err
		}
		if i := slices.IndexFunc(entries, func(e journal.Entry) bool { return e.Position > d.seen }); i >= 0 {
			entries = entries[:i]
		}
		if len(entries) == 0 {
			break
		}
		last := entries[len(entries)-1].Position
		if err := d.bring(ctx, entries, partitions); err != nil {
			return err
		}
		from = last + 1
		d.release(last)
	}
	d.release(d.seen)
	return nil
}

// allStuck reports whether none of the partitions takes its events.
func (d *drainer) allStuck(partitions map[int]bool) bool {
	for p := range partitions {
		if _, stuck := d.stuck[p]; !stuck {
			return false
		}
	}
	return true
}

// caughtUp reports whether all that is in the journal was looked at.
func (d *drainer) caughtUp() bool {
	entries, err := d.journal.Read(d.seen+1, 1)
	return err == nil && len(entries) == 0
}

// release lets go of what nothing waits for up to a position.
func (d *drainer) release(upTo journal.Position) {
	for _, at := range d.stuck {
		upTo = min(upTo, at-1)
	}
	if upTo <= d.journal.Released() {
		return
	}
	if err := d.journal.Release(upTo); err != nil {
		// The next process may bring it again; this one goes on behind it.
		d.d.Logger.Error("note what was drained", "err", err)
	}
	if upTo == d.seen {
		clear(d.done)
		return
	}
	maps.DeleteFunc(d.done, func(at journal.Position, _ struct{}) bool { return at <= upTo })
}

// rest waits until there is something to do.
func (d *drainer) rest(ctx context.Context) {
	var due <-chan time.Time
	if len(d.stuck) > 0 {
		t := time.NewTimer(d.again.Sub(d.d.Now()))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
	case <-d.wake:
	case <-due:
	}
}

// explain says which partitions are stuck, and why the last one that failed did.
func (d *drainer) explain() error {
	if len(d.stuck) == 0 {
		return nil
	}
	var err error
	if last := d.drainErr.Load(); last != nil {
		err = *last
	}
	return fmt.Errorf("gateway: partitions %v do not take theirs since %s: %w",
		slices.Sorted(maps.Keys(d.stuck)), d.since.UTC().Format(time.RFC3339), err)
}

// insist appends a wave, and again what of it was not taken, until all of it was or
// tries times in a row nothing was; with 0 tries as long as it takes.
func (k *Keeper) insist(ctx context.Context, wave []item, tries int) (left []item, err error) {
	wait := drainWait
	for failed := 0; len(wave) > 0; {
		before := len(wave)
		wave = k.appendWave(ctx, wave)
		if len(wave) < before {
			failed, wait = 0, drainWait // it goes on
			if len(wave) == 0 {
				break
			}
		}
		if failed++; failed == tries {
			return wave, nil
		}
		if err := k.pause(ctx, wait); err != nil {
			return wave, err
		}
		wait = min(2*wait, drainWaitMax)
	}
	return nil, nil
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
	k.lost.Add(1)
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

// calls groups items by partition and window, at most drainCall in each: what one
// partition does not take must not keep another's from being counted.
func calls(items []item) [][]item {
	type kind struct {
		partition int
		window    time.Duration
	}
	open := make(map[kind]int)
	var out [][]item
	for _, it := range items {
		c := kind{it.partition, it.window}
		i, ok := open[c]
		if !ok || len(out[i]) == drainCall {
			i = len(out)
			open[c], out = i, append(out, nil)
		}
		out[i] = append(out[i], it)
	}
	return out
}

// appendCall appends items of one partition and window and returns those to be tried again. Where
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
		k.drainErr.Store(&err)
		return items
	case len(items) > 1:
		var left []item
		for i := range items {
			left = append(left, k.appendCall(ctx, items[i:i+1])...)
		}
		return left
	}
	if notWritten := k.journal.SetAside(items[0].entry); notWritten != nil {
		k.drainErr.Store(&notWritten)
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
			switch p, ok := k.partitionOf(e); {
			case ok:
				k.backlog.add([]int{p}, 1)
			case e.Err != nil:
				// It may be read later, and be of any of them.
				for p := range k.backlog.parts {
					k.backlog.add([]int{p}, 1)
				}
				k.backlog.doubtful.Store(true)
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
