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

	"golang.org/x/time/rate"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/handlers/effects"
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

// deadlettersReplayCmd delivers dead letters again.
type deadlettersReplayCmd struct{ selection }

// Run implements the command.
func (r *deadlettersReplayCmd) Run(ctx context.Context, g *globals) error {
	return r.each(ctx, g, "replay", streams.Replayed, func(ids []string) any { return admin.ReplayRequest{IDs: ids} })
}

// replayCmd delivers dead letters again, or what a group has settled.
type replayCmd struct {
	deadlettersReplayCmd

	Settled bool `help:"Instead of dead letters, all that the group has settled and that was appended --since: for a group that lost its effects. It is read from the configured Redis and database."`
}

// Run implements the command.
func (r *replayCmd) Run(ctx context.Context, g *globals) error {
	if r.Settled {
		return r.redeliver(ctx, g)
	}
	return r.deadlettersReplayCmd.Run(ctx, g)
}

// redeliver delivers again what the group has settled.
func (r *replayCmd) redeliver(ctx context.Context, g *globals) error {
	switch {
	case len(r.IDs) > 0 || r.All || len(r.query()) != 1 || r.Since == "":
		return fmt.Errorf("%w: --settled goes with --since, and with no other selection", errConfig)
	case r.Rate < 0:
		return fmt.Errorf("%w: --rate: must not be negative", errConfig)
	}
	since, err := moment(r.Since, time.Now())
	if err != nil {
		return fmt.Errorf("%w: --since: %w", errConfig, err)
	}
	return withStore(ctx, g, func(c *configs.Config, store *effects.Store) error {
		again := app.Redelivery{Group: r.Group, Since: since, DryRun: true}
		if err := again.Run(ctx, c, store); err != nil {
			return startError(err)
		}
		if r.DryRun {
			return r.told(&again)
		}
		if !r.Yes {
			question := fmt.Sprintf("deliver %d settled events again to %s, %d of them from the event log?", again.Kept+again.Logged, r.Group, again.Logged)
			if err := confirm(ctx, question); err != nil {
				return err
			}
		}
		again = app.Redelivery{Group: r.Group, Since: since, Each: r.pace(ctx)}
		err := again.Run(ctx, c, store)
		return errors.Join(err, r.told(&again))
	})
}

// moment reads a time: RFC 3339, or a duration before now.
func moment(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time as in RFC 3339 nor a duration such as 2h", text)
	}
	return at, nil
}

// pace holds deliveries to the rate wanted.
func (r *replayCmd) pace(ctx context.Context) func() error {
	if r.Rate == 0 {
		return ctx.Err
	}
	limit := rate.NewLimiter(rate.Limit(r.Rate), max(1, r.Rate/10))
	return func() error { return limit.Wait(ctx) }
}

// told tells what came of a redelivery.
func (r *replayCmd) told(a *app.Redelivery) error {
	if r.Output == "json" {
		body, err := json.Marshal(map[string]any{"dry_run": a.DryRun, "kept": a.Kept, "logged": a.Logged, "owed": a.Owed})
		if err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
		return printJSON(body)
	}
	text := fmt.Sprintf("%d events from the streams and %d from the event log", a.Kept, a.Logged)
	switch {
	case a.DryRun:
		text += "; nothing was done"
	case a.Owed > 0:
		text += fmt.Sprintf(" are delivered again; %d are not settled, or are dead letters, and are left alone", a.Owed)
	default:
		text += " are delivered again"
	}
	_, err := fmt.Fprintln(os.Stdout, text)
	return err
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
		if _, err := client.post(ctx, "/api/v1/deadletters/"+url.PathEscape(s.Group)+"/"+verb, request(ids[:n]), &answer); err != nil {
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
