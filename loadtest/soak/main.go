// Soak pushes events through a gateway and a worker, one poisoned order in every
// five hundred among them, and fails when streams, memory or goroutines grow with what
// has passed through, or when an order did not come to what it must.
//
// Of a thousand orders one fails for good and has to end as a dead letter, and one
// fails for some seconds, which is long enough to be parked, and has to recover.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

// plan is what a run is asked to do.
type plan struct {
	paybell string
	events  int
	rate    int
	keep    bool
}

// The places of the two poisoned orders in a thousand, and how long the second
// fails: long enough to be parked, shorter than its attempts last.
const (
	every     = 1000
	forGood   = 250
	forAWhile = 750
	ailing    = 3 * time.Second
)

func main() {
	var p plan
	flag.StringVar(&p.paybell, "paybell", "../bin/paybell", "paybell binary")
	flag.IntVar(&p.events, "events", 60000, "how many orders, one event each")
	flag.IntVar(&p.rate, "rate", 300, "callbacks a second")
	flag.BoolVar(&p.keep, "keep", false, "keep logs and data, and say where")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, p); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan) (err error) {
	if p.events < 2*every || p.rate < 1 {
		return fmt.Errorf("-events must be at least %d, -rate at least 1", 2*every)
	}
	if p.paybell, err = filepath.Abs(p.paybell); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "paybell-soak-")
	if err != nil {
		return err
	}
	st := &stack{plan: p, dir: dir}
	defer func() {
		st.stop(err != nil)
		if p.keep {
			fmt.Fprintln(os.Stderr, "kept", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := st.start(ctx); err != nil {
		return err
	}

	watching, stop := context.WithCancel(ctx)
	defer stop()
	samples := make(chan watched, 1)
	go func() { samples <- st.watch(watching) }()
	if err := st.send(ctx); err != nil {
		return err
	}
	stop()
	w := <-samples
	if w.err != nil {
		return w.err
	}
	end, err := st.settle(ctx)
	if err != nil {
		return err
	}
	return report(os.Stdout, p, w.samples, end)
}
