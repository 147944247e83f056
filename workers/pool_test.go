package workers_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

func newPool(reg prometheus.Registerer) *workers.Pool {
	return workers.NewPool(slog.New(slog.DiscardHandler), reg, time.Now)
}

func TestOptionsReportEveryProblemWithItsPath(t *testing.T) {
	if err := workers.DefaultOptions().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	err := workers.Options{MaxAge: -1, Grace: -1}.Validate()
	var paths []string
	for line := range strings.Lines(err.Error()) {
		path, _, _ := strings.Cut(line, ":")
		paths = append(paths, path)
	}
	equal(t, "paths", paths, []string{
		"batch", "concurrency", "prefetch_bytes", "attempts", "max_age", "backoff.initial",
		"park_after", "parked.per_order", "parked.entries", "parked.bytes", "timeout", "grace",
	})
	for path, change := range map[string]func(*workers.Options){
		"batch":            func(o *workers.Options) { o.Batch = 1001 },
		"concurrency":      func(o *workers.Options) { o.Concurrency = 0 },
		"prefetch":         func(o *workers.Options) { o.Prefetch = o.Batch - 1 },
		"prefetch_bytes":   func(o *workers.Options) { o.PrefetchBytes = 1 },
		"attempts":         func(o *workers.Options) { o.Attempts = 1 },
		"max_age":          func(o *workers.Options) { o.MaxAge = -time.Second },
		"backoff.initial":  func(o *workers.Options) { o.Backoff.Initial = 0 },
		"park_after":       func(o *workers.Options) { o.ParkAfter = 2 * time.Hour },
		"parked.per_order": func(o *workers.Options) { o.Parked.PerOrder = 0 },
		"parked.entries":   func(o *workers.Options) { o.Parked.Entries = 0 },
		"parked.bytes":     func(o *workers.Options) { o.Parked.Bytes = 1 },
		"backoff.max":      func(o *workers.Options) { o.Backoff.Max = o.Backoff.Initial - 1 },
		"timeout":          func(o *workers.Options) { o.Timeout = 0 },
		"grace":            func(o *workers.Options) { o.Grace = 2 * time.Hour },
	} {
		t.Run(path, func(t *testing.T) {
			err := options(change).Validate()
			if err == nil || !strings.HasPrefix(err.Error(), path+": must be ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want the one problem of %s", err, path)
			}
		})
	}
}

func TestPoolRefusesWhatItCannotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := workers.HandlerFunc(func(context.Context, workers.Delivery) error { return nil })
		log := func(name string) workers.Log {
			return workertest.NewGroup(name, 1, ttl, time.Now).Consumer("one")
		}
		p := newPool(nil)
		if err := p.Add(log("g"), h, workers.Options{}); err == nil || !strings.Contains(err.Error(), `group "g"`) {
			t.Errorf("options that are not valid: %v", err)
		}
		if err := p.Add(log("g"), h, options(nil)); err != nil {
			t.Fatal(err)
		}
		if err := p.AddBatch(log("g"), each(nil), options(nil)); !errors.Is(err, workers.ErrGroup) {
			t.Errorf("a second group of one name: %v", err)
		}
		if err := p.Add(log(""), h, options(nil)); !errors.Is(err, workers.ErrGroup) {
			t.Errorf("a group without a name: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		synctest.Wait()
		if err := p.Add(log("late"), h, options(nil)); !errors.Is(err, workers.ErrRunning) {
			t.Errorf("a group added to a pool that runs: %v", err)
		}
		if err := p.Run(ctx); !errors.Is(err, workers.ErrRunning) {
			t.Errorf("a second Run: %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestPoolRunsSeveralGroupsAndOneThatFailsHoldsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(prometheus.NewRegistry())
		var groups []*workertest.Group
		for _, name := range []string{"orders", "points", "eventlog"} {
			g := workertest.NewGroup(name, 2, ttl, time.Now)
			g.Append(records(50, "A", "B", "C")...)
			groups = append(groups, g)
			h := each(func(workers.Delivery) error {
				if name == "points" {
					return workers.Unavailable(errTest)
				}
				return nil
			})
			if err := p.AddBatch(g.Consumer("one"), h, options(nil)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		until(t, "two groups are done", func() bool { return groups[0].Owed()+groups[2].Owed() == 0 })
		equal(t, "owed by the third", groups[1].Owed(), 150)
		cancel()
		<-ended
	})
}

func TestMetricsAreNamedAndLabelledWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workertest.NewGroup("g", 1, ttl, time.Now)
		g.Append(records(1, "A")...)
		p := start(t, g.Consumer("one"), each(func(workers.Delivery) error { return workers.Reject(errTest) }), options(nil))
		until(t, "settled", func() bool { return g.Owed() == 0 })
		families, err := p.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		allowed := []string{"group", "outcome", "reason", "away"}
		for _, f := range families {
			if !strings.HasPrefix(f.GetName(), "paybell_workers_") {
				t.Errorf("name %s", f.GetName())
			}
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if !slices.Contains(allowed, l.GetName()) {
						t.Errorf("%s has a label %s", f.GetName(), l.GetName())
					}
				}
			}
		}
		if len(families) < 10 {
			t.Errorf("%d families", len(families))
		}
	})
}

func TestErrorsKeepWhatTheyWrap(t *testing.T) {
	for name, err := range map[string]error{
		"Reject":      workers.Reject(errTest),
		"RetryAfter":  workers.RetryAfter(time.Second, errTest),
		"Unavailable": workers.Unavailable(errTest),
	} {
		if !errors.Is(err, errTest) || err.Error() != errTest.Error() {
			t.Errorf("%s: %v", name, err)
		}
	}
	panicked := &workers.PanicError{Value: io.EOF}
	equal(t, "a panic with an error", panicked.Error(), "workers: handler panicked: EOF")
	equal(t, "other kinds", []bool{workers.Rejected(errTest), workers.IsUnavailable(errTest)}, []bool{false, false})
}
