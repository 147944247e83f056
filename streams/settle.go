package streams

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Charge counts one attempt for each entry and returns the counts, in order. The
// counts outlive the owner, so that an entry that kills its reader is found.
func (g *Group) Charge(ctx context.Context, l Lease, ids []string) ([]int, error) {
	out := make([]int, 0, len(ids))
	for len(ids) > 0 {
		n := min(len(ids), maxIDs)
		reply, err := g.fenced(ctx, chargeScript, l,
			[]string{g.layout.Attempts(l.Partition, g.name)}, anys(nil, ids[:n])...)
		if err != nil {
			return nil, err
		}
		if len(reply) != n {
			return nil, fmt.Errorf("streams: charge: %d counts for %d entries", len(reply), n)
		}
		for _, v := range reply {
			count, _ := v.(int64) // HINCRBY answers nothing else
			out = append(out, int(count))
		}
		ids = ids[n:]
	}
	return out, nil
}

// Settle ends deliveries and takes back attempts, in one step; a settlement of
// more than a thousand entries or 200 dead letters in several, dead letters
// first. Settling again what was settled changes nothing. Attempts taken back
// twice, because an answer was lost, only let an entry run once more.
func (g *Group) Settle(ctx context.Context, l Lease, s Settlement) error {
	for len(s.Done)+len(s.Gone)+len(s.Uncharge)+len(s.Dead) > 0 {
		var now Settlement
		now.Dead, s.Dead = cut(s.Dead, maxDead)
		if len(s.Dead) == 0 {
			now.Done, s.Done = cut(s.Done, maxIDs)
			now.Gone, s.Gone = cut(s.Gone, maxIDs)
			now.Uncharge, s.Uncharge = cut(s.Uncharge, maxIDs)
		}
		if err := g.settle(ctx, l, now); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) settle(ctx context.Context, l Lease, s Settlement) error {
	args := make([]any, 0, 5+len(s.Done)+len(s.Gone)+len(s.Uncharge)+4*len(s.Dead))
	args = append(args, g.name, g.consumer, len(s.Done), len(s.Gone), len(s.Uncharge))
	args = anys(anys(anys(args, s.Done), s.Gone), s.Uncharge)
	for i := range s.Dead {
		d := &s.Dead[i]
		args = append(args, d.EntryID, d.Attempts, d.Reason, bounded(d.Error, maxErrorText))
	}
	reply, err := g.fenced(ctx, settleScript, l, []string{
		g.layout.Events(l.Partition), g.layout.Attempts(l.Partition, g.name), g.layout.Dead(l.Partition, g.name),
		g.layout.Parked(l.Partition, g.name), g.layout.Parcels(l.Partition, g.name), g.layout.Counts(l.Partition, g.name),
	}, args...)
	if err != nil {
		return err
	}
	for i, c := range []interface{ Add(float64) }{g.m.done, g.m.dead, g.m.uncharged} {
		n, _ := at(reply, i).(int64) // the script answers three counts
		c.Add(float64(n))
	}
	return nil
}

// maxErrorText bounds the error text of a dead letter.
const maxErrorText = 1 << 10

// bounded cuts text to at most n bytes of valid UTF-8.
func bounded(text string, n int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// cut splits a list after at most n elements.
func cut[T any](list []T, n int) (head, rest []T) {
	n = min(n, len(list))
	return list[:n], list[n:]
}

func anys(args []any, ids []string) []any {
	for _, id := range ids {
		args = append(args, id)
	}
	return args
}
