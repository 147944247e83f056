// Bench measures paybell beside the least programs that do one part of its work, S1 to
// S11 of docs/performance.md, from real processes on one machine: in alternating
// rounds, each on servers of its own, with medians and ratios. What was acknowledged
// is counted after every measurement, and what is missing or twice is a fault.
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
	"strings"
	"time"

	"github.com/paybell/paybell/loadtest/server"
)

// settings is what a run is asked to do.
type settings struct {
	paybell, beside, limits, noop string
	only                          map[string]bool
	rounds                        int
	duration                      time.Duration
	short, kill                   bool
	quiet                         float64
	tries                         int
	json                          string
}

func main() {
	s := settings{only: map[string]bool{}}
	flag.StringVar(&s.paybell, "paybell", "../bin/paybell", "paybell binary")
	flag.StringVar(&s.beside, "beside", "", "a second one, such as the last release, as further rows")
	flag.StringVar(&s.limits, "limits", "../bin/bench-limits", "the limit programs")
	flag.StringVar(&s.noop, "noop", "../bin/bench-noop", "the worker that does nothing")
	only := flag.String("only", "", "measure these alone, such as S1,S5")
	flag.IntVar(&s.rounds, "rounds", 5, "how often each takes its turn")
	flag.DurationVar(&s.duration, "duration", 5*time.Second, "how long a measurement sends")
	flag.BoolVar(&s.short, "short", false, "one short round of each: that it runs and nothing is lost")
	flag.BoolVar(&s.kill, "kill", false, "SIGKILL the server in the middle of each measurement, start it again, and count what was lost or done twice")
	flag.Float64Var(&s.quiet, "quiet", 0.15, "a measurement while others had more cores than this is taken again")
	flag.IntVar(&s.tries, "tries", 3, "how often at most; the quietest counts")
	flag.StringVar(&s.json, "json", "", "write every measurement to this file")
	flag.Parse()
	for name := range strings.SplitSeq(*only, ",") {
		if name != "" {
			s.only[strings.ToUpper(strings.TrimSpace(name))] = true
		}
	}
	server.SilenceClient()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) (err error) {
	if s.short {
		s.rounds, s.duration, s.tries = 1, time.Second, 1
	}
	if s.rounds < 1 || s.duration < time.Second || s.tries < 1 {
		return errors.New("-rounds and -tries must be at least 1, -duration a second")
	}
	for _, path := range []*string{&s.paybell, &s.beside, &s.limits, &s.noop} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err == nil {
			_, err = os.Stat(*path)
		}
		if err != nil {
			return err
		}
	}
	b, err := newBench(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	return b.run(ctx)
}
