// Loadtest starts Redis, a database and paybell on free loopback ports, lets k6
// post signed callbacks as a scenario says, waits until every group has settled,
// and counts the effects in SQL against the callbacks that were accepted. It fails
// on any difference.
//
// It knows paybell from outside alone: its command line, its configuration, its
// replies, its streams and its tables.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// plan is what a run is asked to do.
type plan struct {
	paybell, k6 string
	scenario    string
	html        string
	rate        int
	duration    time.Duration
	database    string
	appendfsync string
	drain       bool
	kills       int
	settle      time.Duration
	keep        bool
}

// scenarios are how callbacks can arrive.
var scenarios = []string{"steady", "soak", "ramp", "burst", "storm", "mix", "forged"}

func main() {
	var p plan
	flag.StringVar(&p.paybell, "paybell", "../bin/paybell", "paybell binary")
	flag.StringVar(&p.k6, "k6", "../bin/k6", "k6 binary")
	flag.StringVar(&p.scenario, "scenario", "steady", strings.Join(scenarios, ", ")+"; see callbacks.js")
	flag.StringVar(&p.html, "html", "", "write k6's report to this file")
	flag.IntVar(&p.rate, "rate", 200, "callbacks a second")
	flag.DurationVar(&p.duration, "duration", 10*time.Second, "how long to send")
	flag.StringVar(&p.database, "database", "sqlite", "where effects are kept: sqlite or postgres")
	flag.StringVar(&p.appendfsync, "appendfsync", "everysec", "Redis: everysec or always")
	flag.BoolVar(&p.drain, "drain", false, "start the workers only when everything was sent, as processes of their own")
	flag.IntVar(&p.kills, "kills", 0, "with -drain: kill -9 the worker this often while it drains")
	flag.DurationVar(&p.settle, "settle", time.Minute, "how long the groups may make no progress before the run fails")
	flag.BoolVar(&p.keep, "keep", false, "keep logs and data, and say where")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, p); err != nil {
		fmt.Fprintln(os.Stderr, "loadtest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan) (err error) {
	if err := p.check(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "paybell-load-")
	if err != nil {
		return err
	}
	st := &stack{plan: p, dir: dir}
	defer func() {
		st.stop()
		if err != nil {
			st.tail(os.Stderr)
		}
		if p.keep {
			fmt.Fprintln(os.Stderr, "kept", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := st.start(ctx); err != nil {
		return err
	}

	began := time.Now()
	sent, err := st.load(ctx)
	if err != nil {
		return err
	}
	loaded := time.Now()

	want, err := expect(sent)
	if err != nil {
		return err
	}
	db, err := st.openDatabase(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	settling := began
	if p.drain {
		settling = loaded
		if err := st.startWorkers(ctx); err != nil {
			return err
		}
	}
	settled, err := st.waitSettled(ctx, db, want)
	if err != nil {
		return err
	}
	differences, err := st.verify(ctx, db, want)
	if err != nil {
		return err
	}
	r := result{
		plan: p, sent: sent, want: want,
		loading: loaded.Sub(began), settling: settled.Sub(settling), behind: settled.Sub(loaded),
		differences: differences,
	}
	if err := r.print(os.Stdout); err != nil {
		return err
	}
	return r.verdict()
}

// check refuses a plan that cannot be carried out.
func (p *plan) check() error {
	var errs []error
	for _, name := range []*string{&p.paybell, &p.k6} {
		path, err := filepath.Abs(*name)
		if err == nil {
			_, err = os.Stat(path)
		}
		errs = append(errs, err)
		*name = path
	}
	if !slices.Contains(scenarios, p.scenario) {
		errs = append(errs, fmt.Errorf("-scenario %s: must be one of %s", p.scenario, strings.Join(scenarios, ", ")))
	}
	if p.html != "" {
		path, err := filepath.Abs(p.html)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755) //nolint:gosec // a report is for all to read
		}
		errs = append(errs, err)
		p.html = path
	}
	if p.database != "sqlite" && p.database != "postgres" {
		errs = append(errs, fmt.Errorf("-database %s: must be sqlite or postgres", p.database))
	}
	if p.appendfsync != "everysec" && p.appendfsync != "always" {
		errs = append(errs, fmt.Errorf("-appendfsync %s: must be everysec or always", p.appendfsync))
	}
	if p.kills > 0 && !p.drain {
		errs = append(errs, errors.New("-kills: needs -drain"))
	}
	return errors.Join(errs...)
}
