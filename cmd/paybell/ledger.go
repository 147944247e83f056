package main

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"github.com/paybell/paybell/gateway/admin"
)

// ledgerCmd looks after what the ledger has found.
type ledgerCmd struct {
	Acknowledge ledgerAcknowledgeCmd `cmd:"" help:"End the alarm of a group: what it has lost, and what it has twice, is known. The counts stay."`
}

// ledgerAcknowledgeCmd ends an alarm.
type ledgerAcknowledgeCmd struct {
	adminFlags

	Group   string `arg:"" help:"Consumer group, such as orderstatus."`
	Because string `required:"" help:"What was found or done; it is logged."`
}

// Run implements the command.
func (l *ledgerAcknowledgeCmd) Run(ctx context.Context, g *globals) error {
	client, err := l.client(g)
	if err != nil {
		return err
	}
	var done admin.Acknowledged
	body, err := client.post(ctx, "/api/v1/ledger/"+url.PathEscape(l.Group)+"/acknowledge", admin.AcknowledgeRequest{Because: l.Because}, &done)
	if err != nil {
		return err
	}
	if l.Output == "json" {
		return printJSON(body)
	}
	text := fmt.Sprintf("%d lost and %d found twice of %s are acknowledged\n", done.Acknowledged.Lost, done.Acknowledged.Again, l.Group)
	if done == (admin.Acknowledged{}) {
		text = "there was nothing to acknowledge of " + l.Group + "\n"
	}
	_, err = fmt.Fprint(os.Stdout, text)
	return err
}
