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
	"strings"
	"time"

	"github.com/paybell/paybell/loadtest/server"
)

// options are what a run is asked to do.
type options struct {
	paybell, redisConf string
	seed               uint64
	duration           time.Duration
	rate               float64
	// callbacks, kills and least are what a run has to come to: callbacks sent, kills,
	// and kills at each named point.
	callbacks, kills, least int
	lifetime                time.Duration
	variant, only           string
	// calm: nobody is killed.
	calm   bool
	broken bool
	keep   bool
}

func main() {
	var o options
	flag.StringVar(&o.paybell, "paybell", "../bin/paybell-faults", "paybell, built with -tags faults")
	flag.StringVar(&o.redisConf, "redis-conf", "../deploy/redis.conf", "configuration of the redis-server")
	flag.Uint64Var(&o.seed, "seed", 0, "repeats a run; 0 draws a new one")
	flag.DurationVar(&o.duration, "duration", 2*time.Minute, "how long callbacks are sent, at least")
	flag.Float64Var(&o.rate, "rate", 300, "callbacks a second")
	flag.IntVar(&o.callbacks, "callbacks", 1000, "fail with fewer callbacks; to come to this and the next two, it goes on half as long again")
	flag.IntVar(&o.kills, "kills", 5, "fail with fewer kills; each kind of process is killed at least once")
	flag.IntVar(&o.least, "least", 0, "fail with fewer kills at one of the named points")
	flag.DurationVar(&o.lifetime, "lifetime", 3*time.Second, "about how long a process lives")
	flag.StringVar(&o.variant, "variant", "", "break paybell on purpose: append, ack, trim, lease or journal")
	flag.StringVar(&o.only, "only", "", "do only faults that have this in their name")
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
	o.say("seed %d; this repeats it: %s", o.seed, o.again())
	if o.broken {
		return runBroken(ctx, o)
	}
	deck := func() []fault {
		return slices.DeleteFunc(faults(), func(f fault) bool { return !strings.Contains(f.name, o.only) })
	}
	if o.variant != "" {
		i := slices.IndexFunc(variants(), func(v variant) bool { return v.name == o.variant })
		if i < 0 {
			return fmt.Errorf("-variant %s: there is no such variant", o.variant)
		}
		deck, o.calm = variants()[i].deck, variants()[i].calm
	}
	r, err := run(ctx, o, deck)
	if err != nil {
		return err
	}
	r.print(os.Stdout)
	return r.failed()
}

// say writes a line about the run, or about one of those that go on at once.
func (o *options) say(format string, args ...any) {
	who := "faults: "
	if o.broken && o.variant != "" {
		who += o.variant + ": "
	}
	fmt.Fprintf(os.Stderr, who+format+"\n", args...)
}

// again is the command that repeats the run.
func (o *options) again() string {
	words := []string{"go run ./faults"}
	flag.Visit(func(f *flag.Flag) {
		if f.Name != "seed" {
			words = append(words, fmt.Sprintf("-%s=%v", f.Name, f.Value))
		}
	})
	return strings.Join(append(words, fmt.Sprintf("-seed=%d", o.seed)), " ")
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
			o.say("kept %s", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := st.start(ctx); err != nil {
		return nil, err
	}
	return (&course{stack: st, deck: deck}).run(ctx)
}
