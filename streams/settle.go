package streams

import (
	"context"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Run is one call of a handler, by a name that is its own under the lease.
type Run struct {
	Name string
	// IDs are the entries that it runs.
	IDs []string
}

// Charge writes down that runs begin: one attempt of each of their entries, until Settle
// ends the run. It outlives the owner, so that an entry that kills its reader is found:
// another owner, that comes next, counts what was running. Charging again changes nothing.
func (l *Lease) Charge(ctx context.Context, runs []Run) error {
	args := make([]any, 0, 2*len(runs))
	for i := range runs {
		args = append(args, l.run(runs[i].Name), strings.Join(runs[i].IDs, " "))
	}
	_, err := l.fenced(ctx, chargeScript, []string{l.group.layout.Runs(l.partition, l.group.name)}, args...)
	return err
}

// run is a run's name in Redis: whose it is comes first.
func (l *Lease) run(name string) string { return l.group.owner + "/" + name }

// Settle ends deliveries and runs, and sets the attempts of what goes on, in one step; a
// settlement of more than a thousand entries or 200 dead letters in several, dead letters
// first and runs last. Settling again what was settled changes nothing.
func (l *Lease) Settle(ctx context.Context, s Settlement) error {
	for len(s.Done)+len(s.Gone)+len(s.Ended)+len(s.Counts)+len(s.Dead) > 0 {
		now := Settlement{Position: s.Position}
		now.Dead, s.Dead = cut(s.Dead, maxDead)
		if len(s.Dead) == 0 {
			now.Done, s.Done = cut(s.Done, maxIDs)
			now.Gone, s.Gone = cut(s.Gone, maxIDs)
			now.Counts, s.Counts = cut(s.Counts, maxIDs)
		}
		if len(s.Dead)+len(s.Done)+len(s.Gone)+len(s.Counts) == 0 {
			now.Ended, s.Ended = cut(s.Ended, maxIDs)
		}
		if err := l.settle(ctx, now); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lease) settle(ctx context.Context, s Settlement) error {
	g := l.group
	position := ""
	if s.Position > 0 {
		position = strconv.FormatInt(s.Position, 10)
	}
	args := make([]any, 0, 7+len(s.Done)+len(s.Gone)+len(s.Ended)+2*len(s.Counts)+4*len(s.Dead))
	args = append(args, g.name, g.consumer, len(s.Done), len(s.Gone), len(s.Ended), len(s.Counts), position)
	args = anys(anys(args, s.Done), s.Gone)
	for _, name := range s.Ended {
		args = append(args, l.run(name))
	}
	for _, c := range s.Counts {
		args = append(args, c.EntryID, c.Attempts)
	}
	for i := range s.Dead {
		d := &s.Dead[i]
		args = append(args, d.EntryID, d.Attempts, d.Reason, bounded(d.Error, maxErrorText))
	}
	reply, err := l.fenced(ctx, settleScript, []string{
		g.layout.Events(l.partition), g.layout.Attempts(l.partition, g.name), g.layout.Runs(l.partition, g.name),
		g.layout.Counts(l.partition, g.name), g.layout.Parked(l.partition, g.name), g.layout.Parcels(l.partition, g.name),
		g.layout.Dead(l.partition, g.name),
	}, args...)
	if err != nil {
		return err
	}
	g.m.done.Add(float64(number(at(reply, 0))))
	g.m.dead.Add(float64(number(at(reply, 1))))
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
