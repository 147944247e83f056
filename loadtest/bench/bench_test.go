package main

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 100 - i
	}
	for _, c := range []struct {
		values []int
		share  float64
		want   int
	}{
		{nil, 0.5, 0},
		{[]int{7}, 0.99, 7},
		{[]int{3, 1, 2}, 0.5, 2},
		{[]int{1, 2, 3, 4}, 0.5, 2},
		{hundred, 0, 1},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 0.991, 100},
		{hundred, 1, 100},
	} {
		if got := percentile(slices.Clone(c.values), c.share); got != c.want {
			t.Errorf("percentile(%v, %v) = %d, want %d", c.values, c.share, got, c.want)
		}
	}
}

func TestMedian(t *testing.T) {
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("of nothing: %v", got)
	}
	if got := median([]float64{5, 1, 3}); got != 3 {
		t.Errorf("of three: %v", got)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("of four: %v", got)
	}
}

// A ratio is taken within a round: the machine may be half as fast in the next one.
func TestRatios(t *testing.T) {
	got := ratios(map[int]float64{1: 10, 2: 5, 3: 7, 4: 1}, map[int]float64{1: 20, 2: 10, 4: 0})
	if want := []float64{0.5, 0.5}; !slices.Equal(got, want) {
		t.Errorf("ratios = %v, want %v", got, want)
	}
}

func TestPer100k(t *testing.T) {
	if got := per100k(1.5, 50_000); got != 3 {
		t.Errorf("per100k = %v, want 3", got)
	}
	if got := per100k(1, 0); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

// Of two tries the quieter counts, and a fault always does.
func TestNoise(t *testing.T) {
	if noisy(0.15, 0.15) || !noisy(0.16, 0.15) {
		t.Error("others may have as much as -quiet says, and no more")
	}
	loud, quiet, fault := &sample{Foreign: 0.9}, &sample{Foreign: 0.1}, &sample{Foreign: 0.5, Fault: "lost"}
	for _, c := range []struct {
		name       string
		a, b, want *sample
	}{
		{"the first", nil, loud, loud},
		{"a quieter one", loud, quiet, quiet},
		{"a louder one", quiet, loud, quiet},
		{"a fault later", quiet, fault, fault},
		{"a fault before", fault, quiet, fault},
	} {
		if got := quieter(c.a, c.b); got != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// What others used is the machine's work less that of all we started.
func TestForeign(t *testing.T) {
	at := time.Now()
	before := spent{at: at, busy: 100, own: 10, by: map[string]float64{"redis": 4}}
	after := spent{at: at.Add(10 * time.Second), busy: 118, own: 25, by: map[string]float64{"redis": 6, "worker": 5}}
	u := after.since(before)
	if u.foreign != 0.3 || u.by["redis"] != 2 || u.by["worker"] != 5 {
		t.Errorf("%+v", u)
	}
}

func TestReadsProc(t *testing.T) {
	busy, err := parseBusy("cpu  100 20 30 4000 50 6 7 800 9 0\ncpu0 1 2 3\n")
	if want := (100 + 20 + 30 + 6 + 7 + 800) / 100.0; err != nil || busy != want {
		t.Errorf("busy = %v, %v, want %v", busy, err, want)
	}
	if _, err := parseBusy("intr 1"); err == nil {
		t.Error("what is no /proc/stat was read")
	}
	p, ok := parseStat([]byte("42 (a) b) S 7 1 1 0 -1 4194304 1 2 3 4 100 50 30 20 20 0 1 0"))
	if !ok || p.parent != 7 || p.cpu != 2 {
		t.Errorf("%+v, %v", p, ok)
	}
	tree := table{1: {0, 1}, 2: {1, 10}, 3: {2, 100}, 4: {0, 1000}}
	if got := tree.tree(1); got != 111 {
		t.Errorf("tree = %v, want 111", got)
	}
	if processes()[os.Getpid()].parent != os.Getppid() {
		t.Error("this process has not the parent it says")
	}
}

// Every row names targets that its measure takes, and every column has its place.
func TestRowsHaveTargets(t *testing.T) {
	b := &bench{settings: settings{paybell: "one", beside: "two"}}
	for _, m := range measures {
		var names []string
		for _, target := range m.take(b) {
			names = append(names, target.name)
		}
		for _, r := range m.rows {
			if !slices.Contains(names, r.over) || r.under != "" && !slices.Contains(names, r.under) {
				t.Errorf("%s: a row takes %q over %q, the targets are %q", m.name, r.over, r.under, names)
			}
			if !slices.Contains(columns, r.value) {
				t.Errorf("%s: %q is no column", m.name, r.value)
			}
		}
		for _, target := range m.targets(b) {
			under := slices.ContainsFunc(m.rows, func(r row) bool { return r.over == strings.TrimSuffix(target.name, beside) || r.under == target.name })
			if !under {
				t.Errorf("%s: no row needs %q", m.name, target.name)
			}
		}
	}
}

func TestReport(t *testing.T) {
	b := &bench{settings: settings{rounds: 2, duration: time.Second, quiet: 0.15, only: map[string]bool{"S1": true}}}
	for round, rate := range []float64{1000, 3000} {
		b.samples = append(b.samples,
			sample{Measure: "callbacks", Target: limit3, Round: round + 1, Values: values{valueRate: 2 * rate, valueServer: 1}},
			sample{Measure: "callbacks", Target: everysec, Round: round + 1, Values: values{valueRate: rate, valueServer: 2}, Noisy: round == 1, Foreign: 0.5})
	}
	var out strings.Builder
	if err := b.report(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"too noisy in 1 of 4 measurements",
		"| S1 | HMAC callback, everysec, to limit 3: throughput | ≥ 0.80 | 0.50 | 0.50 0.50 |",
		"| S1 | the same: server CPU | ≤ 1.1 | 2 | 2 2 |",
		"| paybell, everysec | 2000 | 2 | 0.50 | noisy |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &out)
		}
	}
}
