// Faults runs paybell as it is run in production, two gateways and three workers with
// Redis and PostgreSQL, sends signed callbacks, and lets everything happen to it that
// happens to such systems: processes are killed at random and between any two steps,
// frozen, cut off and restarted, disks fill, clocks jump, operators delete things. At
// the end a judge that shares no code with paybell compares what the senders were told
// with what Redis and SQL hold.
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
	"time"

	"github.com/paybell/paybell/loadtest/server"
)

// options are what a run is asked to do.
type options struct {
	paybell, redisConf string
	seed               uint64
	duration           time.Duration
	rate               float64
	// least are the kills that every named point has to see before the run ends.
	least    int
	lifetime time.Duration
	variant  string
	broken   bool
	keep     bool
}

func main() {
	var o options
	flag.StringVar(&o.paybell, "paybell", "../bin/paybell-faults", "paybell, built with -tags faults")
	flag.StringVar(&o.redisConf, "redis-conf", "../deploy/redis.conf", "configuration of the redis-server")
	flag.Uint64Var(&o.seed, "seed", 0, "repeats a run; 0 draws a new one")
	flag.DurationVar(&o.duration, "duration", 2*time.Minute, "how long callbacks are sent, at least")
	flag.Float64Var(&o.rate, "rate", 300, "callbacks a second")
	flag.IntVar(&o.least, "least", 0, "go on, half as long again at most, until every named point has seen so many kills")
	flag.DurationVar(&o.lifetime, "lifetime", 3*time.Second, "about how long a process lives")
	flag.StringVar(&o.variant, "variant", "", "break paybell on purpose: append, ack, trim, lease or journal")
	flag.BoolVar(&o.broken, "broken", false, "run every broken variant for a short time and show that each is caught")
	flag.BoolVar(&o.keep, "keep", false, "keep logs and data, and say where")
	flag.Parse()
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	server.SilenceClient()
	if err := start(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, o options) error {
	var err error
	if o.paybell, err = filepath.Abs(o.paybell); err != nil {
		return err
	}
	if _, err := os.Stat(o.paybell); err != nil {
		return fmt.Errorf("-paybell: %w (make bin/paybell-faults builds it)", err)
	}
	if o.broken {
		return runBroken(ctx, o)
	}
	fmt.Fprintf(os.Stderr, "faults: seed %d; this repeats it: go run ./faults -seed %d -duration %v -rate %v -least %d -lifetime %v\n",
		o.seed, o.seed, o.duration, o.rate, o.least, o.lifetime)
	deck := faults
	if o.variant != "" {
		i := slices.IndexFunc(variants(), func(v variant) bool { return v.name == o.variant })
		if i < 0 {
			return fmt.Errorf("-variant %s: there is no such variant", o.variant)
		}
		deck = variants()[i].deck
	}
	r, err := run(ctx, o, deck)
	if err != nil {
		return err
	}
	r.print(os.Stdout)
	return r.failed()
}

// run carries out one run and returns its result; an error means that there is none.
func run(ctx context.Context, o options, deck func() []fault) (_ *result, err error) {
	dir, err := os.MkdirTemp("", "paybell-faults-")
	if err != nil {
		return nil, err
	}
	st := &stack{o: o, dir: dir}
	defer func() {
		st.stop()
		if err != nil {
			st.tail(os.Stderr)
		}
		if o.keep {
			fmt.Fprintln(os.Stderr, "kept", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := st.start(ctx); err != nil {
		return nil, err
	}
	return (&course{stack: st, deck: deck}).run(ctx)
}
