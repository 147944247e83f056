package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/paybell/paybell/gateway/admin"
)

// deadlettersCmd looks after deliveries that were given up.
type deadlettersCmd struct {
	List deadlettersListCmd `cmd:"" help:"List a group's dead letters, newest first."`
	Show deadlettersShowCmd `cmd:"" help:"Show one dead letter with its event and last error."`

	Replay deadlettersReplayCmd `cmd:"" help:"Deliver dead letters again, to their group alone."`
	Drop   deadlettersDropCmd   `cmd:"" help:"End dead letters for good."`
}

// filters say which dead letters of a group are meant; what is left out selects all.
type filters struct {
	Account string `help:"Of this account alone."`
	Order   string `help:"Of this order reference alone."`
	Type    string `help:"Of this event type alone."`
	Reason  string `help:"Of this reason alone: rejected, attempts, age, crash, unreadable or cap."`
	Since   string `help:"Given up since then: RFC 3339, or a duration such as 2h."`
	Until   string `help:"Given up before then."`
}

func (f *filters) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"account": f.Account, "order": f.Order, "type": f.Type, "reason": f.Reason, "since": f.Since, "until": f.Until,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// deadlettersListCmd lists dead letters.
type deadlettersListCmd struct {
	adminFlags
	filters

	Group  string `arg:"" help:"Consumer group, such as orderstatus."`
	Limit  int    `default:"100" help:"At most so many."`
	Cursor string `help:"Continue after an earlier page."`
}

// deadletterPage is the answer of the admin API.
type deadletterPage struct {
	DeadLetters []admin.DeadLetter `json:"dead_letters"`
	Cursor      string             `json:"cursor,omitempty"`
}

// mostOfAPage is how many dead letters the operator's door lists at once.
const mostOfAPage = 500

// deadletters reads pages until it has as many dead letters as wanted, or all. A page
// may be short, or empty, while there are more.
func (a *adminClient) deadletters(ctx context.Context, group string, q url.Values, most int) (all deadletterPage, err error) {
	all.DeadLetters = []admin.DeadLetter{}
	for {
		q.Set("limit", strconv.Itoa(min(mostOfAPage, most-len(all.DeadLetters))))
		var page deadletterPage
		if _, err := a.get(ctx, "/api/v1/deadletters/"+url.PathEscape(group), q, &page); err != nil {
			return all, err
		}
		all.DeadLetters = append(all.DeadLetters, page.DeadLetters...)
		all.Cursor = page.Cursor
		if all.Cursor == "" || len(all.DeadLetters) >= most {
			return all, nil
		}
		q.Set("cursor", all.Cursor)
	}
}

// Run implements the command.
func (l *deadlettersListCmd) Run(ctx context.Context, g *globals) error {
	if l.Limit < 1 {
		return fmt.Errorf("%w: --limit: must be at least 1", errConfig)
	}
	client, err := l.client(g)
	if err != nil {
		return err
	}
	q := l.query()
	if l.Cursor != "" {
		q.Set("cursor", l.Cursor)
	}
	page, err := client.deadletters(ctx, l.Group, q, l.Limit)
	if err != nil {
		return err
	}
	if l.Output == "json" {
		out := json.NewEncoder(os.Stdout)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		return out.Encode(page)
	}
	if len(page.DeadLetters) == 0 {
		_, err := fmt.Fprintf(os.Stdout, "group %s has no dead letters that match\n", l.Group)
		return err
	}
	var b strings.Builder
	b.WriteString("ID\tDEAD AT\tREASON\tATTEMPTS\tACCOUNT\tORDER\tTYPE\tERROR\n")
	for _, d := range page.DeadLetters {
		fmt.Fprintf(&b, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n",
			d.ID, d.DeadAt.UTC().Format(time.RFC3339), d.Reason, d.Attempts, d.Account, oneLine(d.OrderRef), d.Type, oneLine(d.Error))
	}
	if page.Cursor != "" {
		fmt.Fprintf(&b, "\nmore: --cursor %s\n", page.Cursor)
	}
	return printTable(b.String())
}

// deadlettersShowCmd shows one dead letter.
type deadlettersShowCmd struct {
	adminFlags

	Group string `arg:"" help:"Consumer group, such as orderstatus."`
	ID    string `arg:"" help:"Dead letter, as list names it."`
}

// Run implements the command. One record is read best as JSON, whatever the output.
func (s *deadlettersShowCmd) Run(ctx context.Context, g *globals) error {
	client, err := s.client(g)
	if err != nil {
		return err
	}
	var detail admin.DeadLetterDetail
	body, err := client.get(ctx, "/api/v1/deadletters/"+url.PathEscape(s.Group)+"/"+url.PathEscape(s.ID), nil, &detail)
	if err != nil {
		return err
	}
	return printIndented(body)
}
