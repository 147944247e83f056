package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/gateway/journal"
)

// journalCmd looks after a gateway's journal.
type journalCmd struct {
	Status journalStatusCmd `cmd:"" help:"Show what a journal holds, without taking it."`
	Drain  journalDrainCmd  `cmd:"" help:"Empty the journal of a gateway that does not come back into Redis."`
}

// journalFlags say which journal, and how to print.
type journalFlags struct {
	Dir    string `placeholder:"DIR" help:"The journal's directory; the default is journal.dir."`
	Output string `enum:"table,json" default:"table" short:"o" help:"table or json."`
}

// journalStatusCmd shows what a journal holds.
type journalStatusCmd struct{ journalFlags }

// journalStatus is a journal as the command prints it.
type journalStatus struct {
	Dir    string `json:"dir"`
	Held   bool   `json:"held"`
	Events int    `json:"events"`
	Bytes  int64  `json:"bytes"`
	// Oldest is missing when there are no events.
	Oldest      *time.Time `json:"oldest,omitempty"`
	Torn        int64      `json:"torn_bytes"`
	Damaged     int64      `json:"damaged_bytes"`
	Quarantined int64      `json:"quarantined_bytes"`
}

// Run implements the command.
func (s *journalStatusCmd) Run(g *globals) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	st, err := inspectJournal(s.dir(c.Journal.Dir))
	if err != nil {
		return err
	}
	if s.Output == "json" {
		return json.NewEncoder(os.Stdout).Encode(st)
	}
	oldest := "-"
	if st.Oldest != nil {
		oldest = st.Oldest.Format(time.RFC3339)
	}
	holder := "held by nobody"
	if st.Held {
		holder = "held by a gateway"
	}
	_, err = fmt.Fprintf(os.Stdout, "directory   %s (%s)\nevents      %d in %d bytes\noldest      %s\nunreadable  %d bytes damaged, %d torn by crashes\nquarantine  %d bytes\n",
		st.Dir, holder, st.Events, st.Bytes, oldest, st.Damaged, st.Torn, st.Quarantined)
	return err
}

func inspectJournal(dir string) (journalStatus, error) {
	in, err := journal.Inspect(dir)
	if err != nil {
		return journalStatus{}, err
	}
	st := journalStatus{
		Dir: dir, Held: in.Held, Events: in.Payloads, Bytes: in.Bytes,
		Torn: in.Torn, Damaged: in.Damaged, Quarantined: in.Quarantined,
	}
	if !in.Oldest.IsZero() {
		st.Oldest = &in.Oldest
	}
	return st, nil
}

func (f *journalFlags) dir(configured string) string {
	if f.Dir != "" {
		return f.Dir
	}
	return configured
}

// journalDrainCmd empties a journal.
type journalDrainCmd struct{ journalFlags }

// Run implements the command.
func (d *journalDrainCmd) Run(ctx context.Context, g *globals) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	c.Journal.Dir = d.dir(c.Journal.Dir)
	before, err := inspectJournal(c.Journal.Dir)
	if err != nil {
		return err
	}
	bar := newProgress(os.Stderr, before.Events)
	drained := 0
	err = app.DrainJournal(ctx, c, newLogger(c, g.stderr), func(n int) {
		drained = n
		bar.show(n)
	})
	bar.end()
	switch {
	case errors.Is(err, journal.ErrLocked):
		return fmt.Errorf("%w: stop the gateway that holds it, or let that one drain it by itself", err)
	case err != nil:
		return startError(fmt.Errorf("%d of %d events drained: %w", drained, before.Events, err))
	}
	after, err := inspectJournal(c.Journal.Dir)
	if err != nil {
		return err
	}
	if d.Output == "json" {
		return json.NewEncoder(os.Stdout).Encode(map[string]any{"drained": drained, "left": after})
	}
	_, err = fmt.Fprintf(os.Stdout, "%d events drained, %d left, %d bytes in quarantine\n", drained, after.Events, after.Quarantined)
	return err
}

// progress is a bar on a terminal, and nothing elsewhere.
type progress struct {
	out   io.Writer
	total int
}

const progressWidth = 40

func newProgress(f *os.File, total int) *progress {
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 || total == 0 {
		return &progress{}
	}
	return &progress{out: f, total: total}
}

func (p *progress) show(n int) {
	if p.out == nil {
		return
	}
	full := min(n, p.total) * progressWidth / p.total
	fmt.Fprintf(p.out, "\r[%s%s] %d of %d", strings.Repeat("=", full), strings.Repeat(" ", progressWidth-full), n, p.total)
}

func (p *progress) end() {
	if p.out != nil {
		fmt.Fprintln(p.out)
	}
}
