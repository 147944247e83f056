package workers

import (
	"context"
	"errors"
	"time"

	"github.com/paybell/paybell/streams"
)

// stage is where the entries come from.
type stage uint8

const (
	recalling stage = iota // learn what is parked
	adopting               // make the old owners' pending entries ours
	pending                // read our pending entries
	taking                 // read new entries
)

// entryOverhead is what an entry costs in memory beside its callback bytes, roughly.
const entryOverhead = 2 << 10

// reader is the reading side of a partition.
type reader struct {
	stage stage
	// after is the last entry read; "" begins with the first pending one.
	after string
	// mean is the size of an entry, as a moving average.
	mean int64
	// waiting: a goroutine waits for new entries and will report on woke.
	waiting bool
	woke    chan wake
	// news: a wait has ended, and what it found is read in the next round.
	news   bool
	cancel context.CancelFunc
	// replays is how many of them the last recall has seen; recallAt is when the next
	// one may be.
	replays  int64
	recallAt time.Time
	// idle counts the wakes in a row that came at once and brought nothing.
	idle int
}

// wake is the end of one wait for new entries.
type wake struct {
	err   error
	quick bool
}

func newReader() reader {
	return reader{mean: 2 * entryOverhead, woke: make(chan wake, 1), cancel: func() {}}
}

// stop ends the wait for new entries without waiting for its end.
func (r *reader) stop() { r.cancel() }

// room is how many entries may be read now, and of how many bytes, by the options.
func (p *partition) room() (entries int, bytes int64) {
	held := len(p.known) - p.unpacked.entries
	bytes = p.options.PrefetchBytes - (p.bytes - p.unpacked.bytes)
	if bytes <= 0 || held >= p.options.Prefetch {
		return 0, 0
	}
	return min(p.options.Batch, p.options.Prefetch-held), bytes
}

// reserve is room as far as the budget has it, which is charged with it. Where it has none,
// short says when to ask again; a partition that holds nothing but what was parked may
// always read one entry, so that it never waits for another.
func (p *partition) reserve() (entries int, bytes int64) {
	if entries, bytes = p.room(); entries == 0 {
		return 0, 0
	}
	if bytes = p.charge(bytes, p.reader.mean, len(p.known) == p.unpacked.entries); bytes == 0 {
		return 0, 0
	}
	return int(min(int64(entries), 1+bytes/p.reader.mean)), bytes
}

// charge charges the budget for what is about to be read, as holder.reserve does.
func (p *partition) charge(want, least int64, alone bool) int64 {
	got, wait := p.budget.reserve(want, least, alone)
	if wait != nil && p.short == nil { // the first one may be closed by now
		p.short = wait
	}
	return got
}

// read reads one page, and reports whether the next step should come at once.
func (p *partition) read() (more bool, err error) {
	if entries, _ := p.room(); p.draining || p.reader.waiting || entries == 0 {
		return false, nil
	}
	rd, lease := &p.reader, p.tenure.lease
	switch rd.stage {
	case recalling:
		if err := p.recall(); err != nil {
			return false, err
		}
		rd.stage = adopting
		return true, nil
	case adopting:
		if err := lease.Adopt(p.tenure.ctx); err != nil {
			return false, p.reread(err, adopting)
		}
		if p.watch != nil {
			p.watch.Store.Begin(lease.Partition(), lease.Position())
		}
		rd.stage, rd.after, p.begun = pending, "", true
		return true, nil
	case taking:
		if p.lanes.full() {
			p.crowded.failed(errFull)
			return false, nil
		}
		p.crowded.ended()
	}
	room, bytes := p.reserve()
	if room == 0 {
		return false, nil
	}
	defer p.budget.change(-bytes) // accept has charged what came
	var es []streams.Entry
	if rd.stage == pending {
		if es, err = lease.Backlog(p.tenure.ctx, rd.after, room, bytes); err != nil {
			return false, p.reread(err, pending)
		}
		if len(es) == 0 {
			rd.stage = taking
		}
	} else {
		if es, err = lease.Take(p.tenure.ctx, room, bytes); err != nil {
			return false, p.reread(err, pending)
		}
		if len(es) < room {
			p.listen(len(es) == 0)
		}
	}
	if len(es) > 0 {
		rd.after, rd.idle = es[len(es)-1].ID, 0
		p.accept(es)
	}
	return len(es) > 0 || !rd.waiting, nil
}

// reread prepares for reading again after a failed read. The failed call may have
// delivered entries whose names were lost with its answer: only the whole pending
// list tells.
func (p *partition) reread(err error, from stage) error {
	if !errors.Is(err, streams.ErrLeaseLost) {
		p.reader.stage, p.reader.after = from, ""
	}
	return err
}

// accept takes entries over. What is known already is being dealt with.
func (p *partition) accept(es []streams.Entry) {
	for i := range es {
		e := &es[i]
		if known := p.known[e.ID]; known != nil {
			if reissued(known.entry, e) {
				p.logger.Error("an entry id stands for another event than before: what was read of the partition is forgotten and read again",
					"group", p.name, "partition", e.Partition, "entry_id", e.ID)
				p.tenure.lose()
				return
			}
			continue
		}
		it := &item{entry: e, charged: e.Attempts, counted: e.Attempts, size: size(e)}
		p.hold(it)
		p.reader.mean += (it.size - p.reader.mean) / 16
		switch s := p.lanes.slips[e.ID]; {
		case s != nil:
			// The group was created again and delivers what is parked: it has to leave
			// the stream once more.
			p.lanes.moves = append(p.lanes.moves, move{it, s, false})
		case e.Buried:
			// It is a dead letter, and stays one.
			p.settle.done = append(p.settle.done, it)
		case e.Gone:
			p.metrics.lost.Inc()
			p.logger.Error("pending entry was deleted before it was settled: its event is lost to this group",
				"group", p.name, "partition", e.Partition, "entry_id", e.ID)
			p.settle.done = append(p.settle.done, it)
		case e.Err != nil:
			p.bury(it, "unreadable", e.Err)
		case e.Attempts >= p.options.Attempts:
			p.bury(it, "crash", errCrash)
		default:
			it.key = e.Record.Event.OrderingKey()
			it.suspect = e.Attempts > 0
			it.solo = it.suspect
			p.lanes.add(it)
		}
	}
}

// hold takes an entry into memory.
func (p *partition) hold(it *item) {
	p.known[it.entry.ID] = it
	p.bytes += it.size
	p.budget.change(it.size)
}

// reissued reports whether two entries of one id are of different events: the stream
// was begun anew, and Redis's clock was set back.
func reissued(a, b *streams.Entry) bool {
	was, is := a.Record.Event.ID, b.Record.Event.ID
	return was != "" && is != "" && was != is
}

// size is about how much memory an entry takes.
func size(e *streams.Entry) int64 {
	return entryOverhead + int64(len(e.Record.Raw)+len(e.Record.Item))
}

// listen starts a wait for entries newer than those read. Waits that keep returning
// at once although nothing is new are spaced out: a log may wake too often, but it
// must not make this loop spin.
func (p *partition) listen(nothing bool) {
	rd := &p.reader
	var pause time.Duration
	if n := rd.idle - 3; n > 0 && nothing {
		pause = min(time.Second, time.Millisecond<<min(n, 10))
	}
	ctx, cancel := context.WithCancel(p.tenure.ctx)
	rd.waiting, rd.cancel = true, cancel
	after, lease, woke := rd.after, p.tenure.lease, rd.woke
	p.listeners.Go(func() {
		defer cancel()
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
		started := time.Now()
		err := lease.Wait(ctx, after)
		woke <- wake{err: err, quick: time.Since(started) < time.Millisecond}
	})
}

// wake notes that a wait has ended.
func (p *partition) wake(w wake) {
	p.reader.waiting, p.reader.news = false, p.rounds != nil
	if w.err != nil {
		if !p.draining && p.tenure.ctx.Err() == nil {
			p.resume = p.now().Add(p.redis.failed(p.reread(w.err, pending)))
		}
		return
	}
	if w.quick {
		p.reader.idle++
	} else {
		p.reader.idle = 0
	}
}
