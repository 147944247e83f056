package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/paybell/paybell/loadtest/bench/callbacks"
	"github.com/paybell/paybell/loadtest/bench/send"
	"github.com/paybell/paybell/loadtest/server"
)

// allGroups are the built-in groups.
var allGroups = []string{"orderstatus", "points", "eventlog"}

// bench is a run.
type bench struct {
	settings
	dir       string
	redisConf string
	keys      *callbacks.Keys
	lists     map[string]signed
	stacks    int

	postgres *server.Process
	sqlPort  int
	admin    *sql.DB

	samples []sample
}

// signed is a list and when it was.
type signed struct {
	list *send.List
	at   time.Time
}

// fresh is how long a list is used: the accounts take signatures of an hour.
const fresh = 40 * time.Minute

// values are a measurement's figures by name.
type values map[string]float64

// sample is one measurement.
type sample struct {
	Measure string  `json:"measure"`
	Target  string  `json:"target"`
	Round   int     `json:"round"`
	Tries   int     `json:"tries"`
	Values  values  `json:"values"`
	Foreign float64 `json:"foreign_cores"`
	Noisy   bool    `json:"noisy"`
	Fault   string  `json:"fault,omitempty"`
}

// target is one side of a comparison.
type target struct {
	name string
	take func(context.Context) (values, error)
}

// foreign is the figure that the noise rule goes by.
const foreign = "foreign"

func newBench(s settings) (*bench, error) {
	b := &bench{settings: s, lists: map[string]signed{}}
	var err error
	if b.redisConf, err = filepath.Abs("../deploy/redis.conf"); err != nil {
		return nil, err
	}
	if b.keys, err = callbacks.NewKeys(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "paybell-bench-"); err != nil {
		return nil, err
	}
	return b, os.Chmod(b.dir, 0o711) //nolint:gosec // PostgreSQL's user walks through
}

func (b *bench) close() error {
	if b.admin != nil {
		_ = b.admin.Close() // its server is stopped next
	}
	if b.postgres != nil {
		b.postgres.Stop()
	}
	return os.RemoveAll(b.dir)
}

// list is at least n signed callbacks of an account.
func (b *bench) list(account string, n int) (*send.List, error) {
	if l, ok := b.lists[account]; ok && l.list.Len() >= n && time.Since(l.at) < fresh {
		return l.list, nil
	}
	at := time.Now()
	list, err := b.keys.List(account, n)
	if err != nil {
		return nil, err
	}
	b.lists[account] = signed{list, at}
	return list, nil
}

// needPostgres starts the PostgreSQL of the run when it is first needed. It notes when
// transactions commit, which is how S8 knows when an event was settled.
func (b *bench) needPostgres(ctx context.Context) (pid int, err error) {
	if b.postgres != nil {
		return b.postgres.PID(), nil
	}
	if b.sqlPort, err = server.FreePort(); err != nil {
		return 0, err
	}
	if b.postgres, err = server.Postgres(ctx, b.dir, b.sqlPort, "-c", "track_commit_timestamp=on"); err != nil {
		return 0, err
	}
	if b.admin, err = sql.Open("pgx", server.DSN(b.sqlPort)); err != nil {
		return 0, err
	}
	return b.postgres.PID(), b.postgres.Ready(ctx, b.admin.PingContext)
}

// run takes every measure that was asked for and writes the tables.
func (b *bench) run(ctx context.Context) error {
	known := map[string]bool{}
	for _, m := range measures {
		for _, name := range m.names() {
			known[name] = true
		}
	}
	for name := range b.only {
		if !known[name] {
			return fmt.Errorf("-only: there is no %s", name)
		}
	}
	for _, m := range measures {
		if len(b.only) > 0 && !slices.ContainsFunc(m.names(), func(n string) bool { return b.only[n] }) {
			continue
		}
		if m.still && b.kill {
			continue
		}
		targets := m.targets(b)
		rounds := b.rounds
		if m.rounds > 0 {
			rounds = min(rounds, m.rounds)
		}
		for round := range rounds {
			for _, t := range targets {
				if err := b.take(ctx, m, t, round+1); err != nil {
					return err
				}
			}
		}
	}
	if err := errors.Join(b.report(os.Stdout), b.writeJSON()); err != nil {
		return err
	}
	return b.verdict()
}

// take measures a target once, and again while the machine is too noisy.
func (b *bench) take(ctx context.Context, m measure, t target, round int) error {
	var best *sample
	for try := 1; try <= b.tries && (best == nil || best.Noisy); try++ {
		got, err := t.take(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s := sample{Measure: m.name, Target: t.name, Round: round, Values: got, Foreign: got[foreign]}
		s.Noisy = noisy(s.Foreign, b.quiet)
		delete(got, foreign)
		if err != nil {
			s.Fault = err.Error()
		}
		best = quieter(best, &s)
		best.Tries = try
		fmt.Fprintf(os.Stderr, "%s round %d  %-40s %s\n", m.name, round, t.name, s.line())
		if s.Fault != "" {
			break // a fault does not go away by looking again
		}
	}
	b.samples = append(b.samples, *best)
	return nil
}

// noisy is the rule: others had more of the machine than a ratio can bear.
func noisy(foreign, quiet float64) bool { return foreign > quiet }

// quieter is which of two tries counts: one with a fault, else the one that others
// disturbed less.
func quieter(a, b *sample) *sample {
	if a == nil || b.Fault != "" || a.Fault == "" && b.Foreign < a.Foreign {
		return b
	}
	return a
}

// line is a sample in short.
func (s *sample) line() string {
	var out strings.Builder
	for _, name := range order(s.Values) {
		fmt.Fprintf(&out, "%s %s  ", name, format(s.Values[name]))
	}
	fmt.Fprintf(&out, "foreign %.2f", s.Foreign)
	if s.Noisy {
		out.WriteString(" (noisy)")
	}
	if s.Fault != "" {
		out.WriteString("  FAULT: " + s.Fault)
	}
	return out.String()
}

// verdict is an error where anything was lost, done twice or let in.
func (b *bench) verdict() error {
	var errs []error
	for _, s := range b.samples {
		if s.Fault != "" {
			errs = append(errs, fmt.Errorf("%s, %s, round %d: %s", s.Measure, s.Target, s.Round, s.Fault))
		}
	}
	return errors.Join(errs...)
}
