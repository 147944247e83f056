package workertest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/paybell/paybell/streams"
)

// Park implements workers.Lease.
func (l *lease) Park(_ context.Context, ps []streams.Parking) (without []string, err error) {
	err = l.fenced(Call{Op: "Park", Parkings: slices.Clone(ps)}, func(p *part) error {
		now := l.c.g.now()
		for _, want := range ps {
			k, kept := p.parked[want.EntryID]
			_, pending := p.pending[want.EntryID]
			delete(p.pending, want.EntryID)
			if !kept {
				k.entry = p.entries[p.place[want.EntryID]]
				if !pending || k.entry.Gone {
					without = append(without, want.EntryID)
					continue
				}
			}
			k.known, k.due = want.Attempts, now.Add(want.Wait)
			if want.Behind {
				k.due = time.Time{}
			}
			p.parked[want.EntryID] = k
			p.attempts[want.EntryID] = want.Attempts
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return without, nil
}

// Parked implements workers.Lease.
func (l *lease) Parked(_ context.Context, first, limit int) (out []streams.Parked, err error) {
	err = l.fenced(Call{Op: "Parked"}, func(p *part) error {
		all := slices.SortedFunc(maps.Values(p.parked), func(a, b parked) int {
			return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.entry.ID, b.entry.ID))
		})
		now := l.c.g.now()
		for _, k := range all[min(first, len(all)):min(first+limit, len(all))] {
			out = append(out, streams.Parked{
				ID: k.entry.ID, Key: k.entry.Record.Event.OrderingKey(), Wait: max(0, k.due.Sub(now)),
				Attempts: p.attempts[k.entry.ID], Known: k.known, Bytes: len(k.entry.Record.Raw),
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Replays implements workers.Lease.
func (l *lease) Replays() int64 {
	l.c.g.mu.Lock()
	defer l.c.g.mu.Unlock()
	return l.c.g.parts[l.partition].replays
}

// Unpack implements workers.Lease.
func (l *lease) Unpack(_ context.Context, ids []string) (es []streams.Entry, err error) {
	err = l.fenced(Call{Op: "Unpack", IDs: slices.Clone(ids)}, func(p *part) error {
		for _, id := range ids {
			e := streams.Entry{ID: id, Partition: l.partition, Gone: true}
			if k, ok := p.parked[id]; ok {
				e = k.entry
				e.Attempts = p.attempts[id]
			}
			es = append(es, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return es, nil
}
