package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
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

	Group   string   `arg:"" help:"Consumer group, such as orderstatus."`
	IDs     []string `arg:"" optional:"" name:"id" help:"Dead letters, as list names them."`
	Account string   `help:"Those of this account."`
	Order   string   `help:"Those of this order reference."`
	Type    string   `help:"Those of this event type."`
	Reason  string   `help:"Those of this reason: rejected, attempts, age, crash, unreadable or cap."`
	Since   string   `help:"Those given up since then: RFC 3339, or a duration such as 2h."`
	Until   string   `help:"Those given up before then."`
	All     bool     `help:"All of the group."`
	DryRun  bool     `help:"Only tell which they are."`
	Rate    int      `default:"100" help:"At most so many a second; 0 for no limit."`
	Yes     bool     `short:"y" help:"Do not ask."`
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
	client, err := s.client(g)
	if err != nil {
		return err
	}
	ids, err := s.find(ctx, client)
	if err != nil {
		return err
	}
	if s.DryRun || len(ids) == 0 {
		return s.tell(tally{Selected: len(ids), DryRun: s.DryRun}, ids)
	}
	if !s.Yes {
		if err := confirm(fmt.Sprintf("%s %d dead letters of %s?", verb, len(ids), s.Group)); err != nil {
			return err
		}
	}
	t := tally{Selected: len(ids), Outcomes: map[streams.ReplayOutcome]int{}}
	bar, came := newProgress(os.Stderr, len(ids)), 0
	err = s.carryOut(ctx, client, verb, ids, request, func(rs []streams.DeadLetterResult) {
		for _, r := range rs {
			t.Outcomes[r.Outcome]++
		}
		came += len(rs)
		bar.show(came)
	})
	bar.end()
	if told := s.tell(t, nil); told != nil {
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
	q := url.Values{"limit": {"500"}}
	for name, value := range map[string]string{
		"account": s.Account, "order": s.Order, "type": s.Type, "reason": s.Reason, "since": s.Since, "until": s.Until,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	selects := len(q) > 1 || s.All
	switch {
	case len(s.IDs) > 0 && selects:
		return nil, fmt.Errorf("either the dead letters or a selection: %w", errSelect)
	case len(s.IDs) > 0:
		return s.IDs, nil
	case !selects:
		return nil, errSelect
	}
	var ids []string
	for {
		var page deadletterPage
		if _, err := client.get(ctx, "/api/v1/deadletters/"+url.PathEscape(s.Group), q, &page); err != nil {
			return nil, err
		}
		for i := range page.DeadLetters {
			ids = append(ids, page.DeadLetters[i].ID)
		}
		if page.Cursor == "" {
			break
		}
		q.Set("cursor", page.Cursor)
	}
	for i, j := 0, len(ids)-1; i < j; i, j = i+1, j-1 {
		ids[i], ids[j] = ids[j], ids[i]
	}
	return ids, nil
}

// mostAtOnce is how many dead letters one request names.
const mostAtOnce = 100

// carryOut sends the requests, a tenth of a second's worth at a time.
func (s *selection) carryOut(ctx context.Context, client *adminClient, verb string, ids []string, request func([]string) any, heard func([]streams.DeadLetterResult)) error {
	size, every := mostAtOnce, time.Duration(0)
	if s.Rate > 0 {
		size = min(mostAtOnce, max(1, s.Rate/10))
		every = time.Second * time.Duration(size) / time.Duration(s.Rate)
	}
	next := time.Now()
	for len(ids) > 0 {
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
		next = next.Add(every)
		if wait := time.Until(next); wait > 0 && len(ids) > 0 {
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
}

func (s *selection) tell(t tally, ids []string) error {
	if s.Output == "json" {
		body, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
		return printJSON(body)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d selected", t.Selected)
	for _, o := range []streams.ReplayOutcome{streams.Replayed, streams.Dropped, streams.Missing, streams.Owing, streams.Empty} {
		if n := t.Outcomes[o]; n > 0 {
			fmt.Fprintf(&b, ", %d %s", n, o)
		}
	}
	if t.DryRun {
		b.WriteString("; nothing was done\n")
		b.WriteString(strings.Join(ids, "\n"))
	}
	_, err := fmt.Fprintln(os.Stdout, strings.TrimSpace(b.String()))
	return err
}

// confirm asks the person at the terminal.
func confirm(question string) error {
	if info, err := os.Stdin.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return errConfirm
	}
	if _, err := fmt.Fprintf(os.Stderr, "%s [y/N] ", question); err != nil {
		return err
	}
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errConfirm
	}
	return nil
}
