package main

import (
	"context"
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

	Replay replayCmd          `cmd:"" help:"Deliver dead letters again, to their group alone."`
	Drop   deadlettersDropCmd `cmd:"" help:"End dead letters for good."`
}

// deadlettersListCmd lists dead letters.
type deadlettersListCmd struct {
	adminFlags

	Group   string `arg:"" help:"Consumer group, such as orderstatus."`
	Account string `help:"Only of this account."`
	Order   string `help:"Only of this order reference."`
	Type    string `help:"Only of this event type."`
	Reason  string `help:"Only of this reason: rejected, attempts, age, crash, unreadable or cap."`
	Since   string `help:"Only given up since then: RFC 3339, or a duration such as 2h."`
	Until   string `help:"Only given up before then."`
	Limit   int    `default:"100" help:"At most so many."`
	Cursor  string `help:"Continue after an earlier page."`
}

// deadletterPage is the answer of the admin API.
type deadletterPage struct {
	DeadLetters []admin.DeadLetter `json:"dead_letters"`
	Cursor      string             `json:"cursor"`
}

// Run implements the command.
func (l *deadlettersListCmd) Run(ctx context.Context, g *globals) error {
	client, err := l.client(g)
	if err != nil {
		return err
	}
	q := url.Values{"limit": {strconv.Itoa(l.Limit)}}
	for name, value := range map[string]string{
		"account": l.Account, "order": l.Order, "type": l.Type, "reason": l.Reason,
		"since": l.Since, "until": l.Until, "cursor": l.Cursor,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	var page deadletterPage
	body, err := client.get(ctx, "/api/v1/deadletters/"+url.PathEscape(l.Group), q, &page)
	if err != nil {
		return err
	}
	if l.Output == "json" {
		return printJSON(body)
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
