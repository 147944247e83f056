package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/streams"
)

// partitionsCmd looks after how many streams the events are spread over.
type partitionsCmd struct {
	Show   partitionsShowCmd   `cmd:"" help:"Show the number of partitions, those there were, and whether it is being changed."`
	Change partitionsChangeCmd `cmd:"" help:"Change the number of partitions, while processes run or not. Gateways keep callbacks in their journals until they are restarted with the new number."`
}

type partitionsShowCmd struct {
	Output string `enum:"table,json" default:"table" short:"o" help:"table or json."`
}

// Run implements the command.
func (s partitionsShowCmd) Run(ctx context.Context, g *globals) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	p, err := app.ReadPartitions(ctx, c)
	if err != nil {
		return startError(err)
	}
	if s.Output == "json" {
		return json.NewEncoder(os.Stdout).Encode(p)
	}
	text := fmt.Sprintf("partitions  %d, changed %s times\n", p.Number, p.Generation)
	if len(p.Former) > 0 {
		text += fmt.Sprintf("former      %v\n", p.Former)
	}
	switch {
	case p.Unfinished:
		text += fmt.Sprintf("unfinished  a change to %d ended early; nothing is closed. Finish it with paybell partitions change %d, or drop it with paybell partitions change %d\n",
			p.Becomes, p.Becomes, p.Number)
	case p.Becomes != 0:
		text += fmt.Sprintf("changing    to %d\n", p.Becomes)
	}
	if c.Streams.Partitions != 0 && c.Streams.Partitions != p.Number && p.Number != 0 {
		text += fmt.Sprintf("configured  %d: set streams.partitions to %d\n", c.Streams.Partitions, p.Number)
	}
	_, err = os.Stdout.WriteString(text)
	return err
}

// partitionsChangeCmd changes the number.
type partitionsChangeCmd struct {
	N       int           `arg:"" name:"number" help:"How many partitions there are to be."`
	Timeout time.Duration `default:"5m" help:"How long the groups may take to settle what there is, while nothing is appended. Then the number stays."`
}

// Run implements the command.
func (p partitionsChangeCmd) Run(ctx context.Context, g *globals) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	if p.N < 1 || p.N > streams.MaxPartitions {
		return fmt.Errorf("%w: <number>: must be between 1 and %d", errConfig, streams.MaxPartitions)
	}
	if p.Timeout <= 0 {
		return fmt.Errorf("%w: --timeout: must be more than 0", errConfig)
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) } // a reader that left stops nothing
	change := &streams.Change{
		To: p.N, Timeout: p.Timeout,
		Passed: func(step streams.ChangeStep) {
			switch step {
			case streams.ChangeClosed:
				say("closed: nothing is appended, gateways keep callbacks in their journals")
			case streams.ChangeDone:
				say("changed: there are %d partitions", p.N)
			case streams.ChangeTold:
			}
		},
		Waits: func(left []streams.Left) {
			if len(left) > 0 {
				say("waiting: %s, and %d more such", left[0], len(left)-1)
			}
		},
	}
	from, told, err := app.ChangePartitions(ctx, c, change, newLogger(c, g.stderr))
	switch {
	case errors.Is(err, streams.ErrLayout):
		return fmt.Errorf("%w: %w", errConfig, err)
	case err != nil:
		return startError(err)
	case from == p.N:
		say("there are %d partitions already", p.N)
	default:
		say("set streams.partitions to %d and restart every process, one after another; until then gateways keep callbacks in their journals, and workers wait", p.N)
	}
	if told >= 0 {
		say("told: %d connections were closed, so that each process looks at the number again", told)
	}
	return nil
}
