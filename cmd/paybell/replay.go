package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/streams"
)

// Errors of selecting what to do something to.
var (
	errSelect  = errors.New("name dead letters, or select them with --account, --order, --type, --reason, --since or --until, or say --all")
	errConfirm = errors.New("not done: say --yes where nobody can be asked")
	errPartly  = errors.New("some were not done")
)

// selection says which dead letters of a group are meant, and how to go about it.
type selection struct {
	adminFlags
	filters

	Group  string   `arg:"" help:"Consumer group, such as orderstatus."`
	IDs    []string `arg:"" optional:"" name:"id" help:"Dead letters, as list names them."`
	All    bool     `help:"All of the group."`
	DryRun bool     `help:"Only tell which they are, and which of those named are missing."`
	Rate   int      `default:"100" help:"At most so many a second; 0 for no limit."`
	Yes    bool     `short:"y" help:"Do not ask."`
}

// replayCmd delivers dead letters again.
type replayCmd struct{ selection }

// Run implements the command.
func (r *replayCmd) Run(ctx context.Context, g *globals) error {
	return r.each(ctx, g, "replay", streams.Replayed, func(ids []string) any { return admin.ReplayRequest{IDs: ids} })
}

// deadlettersDropCmd ends dead letters for good.
type deadlettersDropCmd struct {
	selection

	Because string `required:"" help:"Why; it is logged."`
}

// Run implements the command.
func (d *deadlettersDropCmd) Run(ctx context.Context, g *globals) error {
	return d.each(ctx, g, "drop", streams.Dropped, func(ids []string) any {
		return admin.DropRequest{IDs: ids, Because: d.Because}
	})
}

// each finds the dead letters that are meant, asks, and does it at the rate wanted.
func (s *selection) each(ctx context.Context, g *globals, verb string, done streams.ReplayOutcome, request func(ids []string) any) error {
	if s.Rate < 0 {
		return fmt.Errorf("%w: --rate: must not be negative", errConfig)
	}
	client, err := s.client(g)
	if err != nil {
		return err
	}
	ids, err := s.find(ctx, client)
	if err != nil {
		return err
	}
	if s.DryRun {
		return s.rehearse(ctx, client, ids)
	}
	if len(ids) == 0 {
		return s.tell(tally{})
	}
	if !s.Yes {
		if err := confirm(ctx, fmt.Sprintf("%s %d dead letters of %s?", verb, len(ids), s.Group)); err != nil {
			return err
		}
	}
	t := tally{Selected: len(ids), Outcomes: map[streams.ReplayOutcome]int{}}
	bar, came := newProgress(os.Stderr, len(ids)), 0
	err = s.insist(ctx, client, verb, ids, request, func(rs []streams.DeadLetterResult) {
		for _, r := range rs {
			t.Outcomes[r.Outcome]++
		}
		came += len(rs)
		bar.show(came)
	})
	bar.end()
	if told := s.tell(t); told != nil {
		return errors.Join(err, told)
	}
	if err == nil && t.Outcomes[done] < len(ids) {
		err = errPartly
	}
	return err
}

// find returns the dead letters that are meant, oldest first: the order in which
// they were given up is the order in which they are delivered again.
func (s *selection) find(ctx context.Context, client *adminClient) ([]string, error) {
	q := s.query()
	selects := len(q) > 0 || s.All
	switch {
	case len(s.IDs) > 0 && selects:
		return nil, fmt.Errorf("either the dead letters or a selection: %w", errSelect)
	case len(s.IDs) > 0:
		return s.IDs, nil
	case !selects:
		return nil, errSelect
	}
	found, err := client.deadletters(ctx, s.Group, q, math.MaxInt)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(found.DeadLetters))
	for _, d := range slices.Backward(found.DeadLetters) {
		ids = append(ids, d.ID)
	}
	return ids, nil
}

// rehearse tells what would be done. What was found is there; what was named is looked
// for.
func (s *selection) rehearse(ctx context.Context, client *adminClient, ids []string) error {
	t := tally{DryRun: true, IDs: []string{}}
	for _, id := range ids {
		if len(s.IDs) > 0 {
			var d admin.DeadLetterDetail
			_, err := client.get(ctx, "/api/v1/deadletters/"+url.PathEscape(s.Group)+"/"+url.PathEscape(id), nil, &d)
			if no, ok := errors.AsType[*doorError](err); ok && no.status == http.StatusNotFound {
				t.Missing = append(t.Missing, id)
				continue
			}
			if err != nil {
				return err
			}
		}
		t.IDs = append(t.IDs, id)
	}
	t.Selected = len(t.IDs)
	return s.tell(t)
}

// roomWithin is how long a replay that does not get on waits for room among what is
// parked, and roomEvery how often it tries again.
const (
	roomWithin = time.Minute
	roomEvery  = time.Second
)

// insist carries out what is asked for, and again what found no room, for as long as
// it gets on.
func (s *selection) insist(ctx context.Context, client *adminClient, verb string, ids []string, request func([]string) any, heard func([]streams.DeadLetterResult)) error {
	for since := time.Now(); ; {
		var full []streams.DeadLetterResult
		err := s.carryOut(ctx, client, verb, ids, request, func(rs []streams.DeadLetterResult) {
			heard(slices.DeleteFunc(rs, func(r streams.DeadLetterResult) bool {
				if r.Outcome != streams.Full {
					return false
				}
				full = append(full, r)
				return true
			}))
		})
		if len(full) < len(ids) {
			since = time.Now()
		}
		if err != nil || len(full) == 0 || time.Since(since) > roomWithin {
			heard(full)
			return err
		}
		ids = make([]string, len(full)) // those given are the caller's
		for i, r := range full {
			ids[i] = r.ID
		}
		select {
		case <-time.After(roomEvery):
		case <-ctx.Done():
			heard(full)
			return ctx.Err()
		}
	}
}

// mostAtOnce is how many dead letters one request names.
const mostAtOnce = 100

// carryOut sends the requests, a tenth of a second's worth at a time. What a slow
// answer held up is not made good for by going faster.
func (s *selection) carryOut(ctx context.Context, client *adminClient, verb string, ids []string, request func([]string) any, heard func([]streams.DeadLetterResult)) error {
	size, every := mostAtOnce, time.Duration(0)
	if s.Rate > 0 {
		size = min(mostAtOnce, max(1, s.Rate/10))
		every = time.Second * time.Duration(size) / time.Duration(s.Rate)
	}
	for len(ids) > 0 {
		begun := time.Now()
		n := min(size, len(ids))
		var answer admin.DeadLetterResults
		if err := client.post(ctx, "/api/v1/deadletters/"+url.PathEscape(s.Group)+"/"+verb, request(ids[:n]), &answer); err != nil {
			return err
		}
		heard(answer.Results)
		if answer.Problem != "" {
			return fmt.Errorf("%s: %s", verb, answer.Problem)
		}
		ids = ids[n:]
		if wait := every - time.Since(begun); wait > 0 && len(ids) > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// tally is what came of a command.
type tally struct {
	Selected int                           `json:"selected"`
	DryRun   bool                          `json:"dry_run,omitempty"`
	Outcomes map[streams.ReplayOutcome]int `json:"outcomes,omitempty"`
	// IDs are what a dry run selected, Missing those named that there are not.
	IDs     []string `json:"ids,omitzero"`
	Missing []string `json:"missing,omitempty"`
}

func (s *selection) tell(t tally) error {
	if s.Output == "json" {
		body, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
		return printJSON(body)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d selected", t.Selected)
	for _, o := range []streams.ReplayOutcome{streams.Replayed, streams.Dropped, streams.Missing, streams.Owing, streams.Empty, streams.Full} {
		if n := t.Outcomes[o]; n > 0 {
			fmt.Fprintf(&b, ", %d %s", n, o)
		}
	}
	if t.DryRun {
		if len(t.Missing) > 0 {
			fmt.Fprintf(&b, ", %d missing", len(t.Missing))
		}
		b.WriteString("; nothing was done\n")
		for _, id := range t.IDs {
			fmt.Fprintln(&b, id)
		}
		for _, id := range t.Missing {
			fmt.Fprintln(&b, id, "is missing")
		}
	}
	_, err := fmt.Fprintln(os.Stdout, strings.TrimSpace(b.String()))
	return err
}
