package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/paybell/paybell/gateway/journal"
	"github.com/paybell/paybell/streams/event"
)

// Owed are the events, by ID, that some declared group has not settled.
type Owed struct {
	// Live are unread, pending or parked.
	Live map[string]struct{}
	// Dead are dead letters.
	Dead map[string]struct{}
}

// How the mode always keeps the journal small.
const (
	retainEvery = 5 * time.Second
	retainPage  = 256
)

// runAlways puts everything that is kept into the stream, opens the door, and from
// then on lets go of what nobody needs.
func (k *Keeper) runAlways(ctx context.Context) error {
	if err := k.rebuild(ctx); err != nil {
		return unlessEnded(ctx, err)
	}
	close(k.opened)
	t := time.NewTicker(retainEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := k.retain(ctx); err != nil && ctx.Err() == nil {
			k.d.Logger.Error("let go of what the journal needs not keep", "err", err)
		}
	}
}

// rebuild puts everything that is kept into the stream again, in order. It makes the
// dedup marks anew; groups get every event again, and the dedup keys beside their
// effects make that harmless. Attempts begin at 1.
func (k *Keeper) rebuild(ctx context.Context) error {
	start, n := k.d.Now(), 0
	for from := k.journal.Released() + 1; ; {
		entries, err := k.journal.Read(from, drainPage)
		if err != nil {
			return fmt.Errorf("gateway: rebuild the stream: %w", err)
		}
		if len(entries) == 0 {
			break
		}
		for _, wave := range waves(k.items(entries)) {
			if _, err := k.insist(ctx, wave, 0); err != nil {
				return err
			}
		}
		n += len(entries)
		from = entries[len(entries)-1].Position + 1
		k.underway.skip(from)
	}
	if n > 0 {
		k.d.Logger.Info("stream rebuilt from the journal", "payloads", n, "took", k.d.Now().Sub(start).Round(time.Millisecond))
	}
	return nil
}

// appendBoth makes records durable in the journal and then appends them to the
// stream. Where the second fails the provider is asked to send again: the stream is in
// this process, and the journal's copy is harmless.
func (k *Keeper) appendBoth(ctx context.Context, window time.Duration, records []event.Record) ([]event.Appended, error) {
	payloads, err := encodePayloads(window, records)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	a := &passage{}
	err = k.journal.Submit(payloads, func(first journal.Position, err error) {
		if err == nil {
			k.m.kept.Add(float64(len(records)))
			k.underway.begin(a, first, len(records))
		}
		done <- err
	})
	if err != nil {
		return nil, notKept(err, nil)
	}
	defer k.underway.end(a)
	select {
	case err := <-done:
		if err != nil {
			return nil, notKept(err, nil)
		}
		return k.d.Stream.Append(ctx, window, records)
	case <-ctx.Done():
		return nil, notKept(context.Cause(ctx), nil)
	}
}

// underway are the records that are in the journal and whose caller is about to
// append them to the stream.
type underway struct {
	mu  sync.Mutex
	now map[*passage]struct{}
	// next is the position behind the last one begun. The journal tells of positions
	// in their order.
	next journal.Position
}

// passage is one call's way from the journal to the stream.
type passage struct {
	first journal.Position
	ended bool // the caller may have given up before the journal told
}

func (u *underway) begin(a *passage, first journal.Position, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.next = first + journal.Position(n) //nolint:gosec // a length
	if !a.ended {
		a.first = first
		u.now[a] = struct{}{}
	}
}

// skip says that everything below a position is in the stream.
func (u *underway) skip(below journal.Position) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.next = max(u.next, below)
}

func (u *underway) end(a *passage) {
	u.mu.Lock()
	defer u.mu.Unlock()
	a.ended = true
	delete(u.now, a)
}

// low is the position below which nothing is underway any more: what no group owes of
// it was settled, or never accepted.
func (u *underway) low() journal.Position {
	u.mu.Lock()
	defer u.mu.Unlock()
	low := u.next
	for a := range u.now {
		low = min(low, a.first)
	}
	return low
}

// retain releases the oldest payloads whose window has passed and that every group has
// settled. A dead letter is put at the end of the journal instead: it is kept until
// somebody decides, holds its order back no longer, and would pin everything behind
// it. What is unread, pending or parked stays where it is, for the sake of its order's
// later events. When three quarters of the room are taken the windows are given up,
// oldest first: the dedup keys beside the effects absorb what that lets in.
func (k *Keeper) retain(ctx context.Context) error {
	end := k.underway.low()
	var owed *Owed
	for {
		entries, err := k.journal.Read(k.journal.Released()+1, retainPage)
		if err != nil {
			return err
		}
		pressed := k.pressed()
		var (
			last    journal.Position
			forward [][]byte
			blocked = len(entries) == 0
		)
		for _, e := range entries {
			id, other, window, ok := idsOf(e)
			if e.Position >= end || ok && !pressed && k.d.Now().Sub(e.At) <= window {
				blocked = true
				break
			}
			if owed == nil {
				o, err := k.d.Owed(ctx)
				if err != nil {
					return fmt.Errorf("gateway: ask what groups owe: %w", err)
				}
				owed = &o
			}
			if has(owed.Live, id, other) {
				blocked = true
				break
			}
			if has(owed.Dead, id, other) {
				forward = append(forward, e.Payload)
			}
			last = e.Position
		}
		if last == 0 {
			return nil
		}
		if len(forward) > 0 {
			if _, err := k.journal.Move(ctx, forward); err != nil {
				return fmt.Errorf("gateway: keep dead letters' events: %w", err)
			}
		}
		if err := k.journal.Release(last); err != nil {
			return err
		}
		if blocked {
			return nil
		}
	}
}

// pressed reports whether the journal needs room.
func (k *Keeper) pressed() bool {
	s := k.journal.Stats()
	return s.Bytes+s.Quarantined > k.o.MaxBytes/4*3
}

// idsOf are the IDs under which an entry's event may stand in the stream: its own, and
// that of a conflict. An entry that cannot be read has none and nothing to wait for.
func idsOf(e journal.Entry) (id, conflict string, window time.Duration, ok bool) {
	if e.Err != nil {
		return "", "", 0, false
	}
	window, r, err := decodePayload(e.Payload)
	if err != nil {
		return "", "", 0, false
	}
	return r.Event.ID, r.Event.AsConflict().ID, window, true
}

func has(set map[string]struct{}, ids ...string) bool {
	for _, id := range ids {
		if _, ok := set[id]; ok {
			return true
		}
	}
	return false
}
