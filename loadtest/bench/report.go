package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
)

// The figures, in the order of the tables.
const (
	valueRate       = "per second"
	valueP50        = "p50 ms"
	valueP99        = "p99 ms"
	valueServer     = "server CPU-s/100k"
	valueRedis      = "Redis CPU-s/100k"
	valueDatabase   = "database CPU-s/100k"
	valueRSS        = "MiB at most"
	valueHighest    = "highest rate"
	valueSettledP50 = "settled p50 ms"
	valueSettledP99 = "settled p99 ms"
	valueCores      = "cores"
	valueStored     = "Redis bytes an event"
	valueStripe     = "Stripe over body"
	valueAlipay     = "Alipay over body"
	valueWeChat     = "WeChat over body"
	valueID         = "bytes an id"
	valueDoor1      = "gateway MiB at 1"
	valueDoor64     = "gateway MiB at 64"
	valueDoor1024   = "gateway MiB at 1024"
	valueWorker1    = "worker MiB, 1 partition"
	valueWorker16   = "worker MiB, 16 partitions"
	valueWorker64   = "worker MiB, 64 partitions"
	valueAccepted   = "accepted per second"
	valueLow        = "CPU ms an event at 200/s"
	valueFull       = "CPU ms an event, append and drain"
	valueDrain      = "CPU ms an event, drain"
	valueTimes      = "times append and drain"
	valueTimesDrain = "times drain"
	valueLost       = "lost"
	valueTwice      = "twice"
)

var columns = []string{
	valueRate, valueAccepted, valueP50, valueP99, valueHighest, valueSettledP50, valueSettledP99, valueCores,
	valueServer, valueRedis, valueDatabase, valueRSS,
	valueStored, valueStripe, valueAlipay, valueWeChat, valueID,
	valueDoor1, valueDoor64, valueDoor1024, valueWorker1, valueWorker16, valueWorker64,
	valueLow, valueFull, valueDrain, valueTimes, valueTimesDrain, valueLost, valueTwice,
}

// order is the names of some values in the order of the columns.
func order(v values) []string {
	return slices.DeleteFunc(slices.Clone(columns), func(name string) bool { _, ok := v[name]; return !ok })
}

// format writes a figure with three digits or all before the point.
func format(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case v == math.Trunc(v) && a < 1000:
		return fmt.Sprintf("%.0f", v)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// rounds are a target's figures of one kind by round, faults left out.
func (b *bench) figures(measure, target, value string) map[int]float64 {
	out := map[int]float64{}
	for _, s := range b.samples {
		if v, ok := s.Values[value]; ok && s.Fault == "" && s.Measure == measure && s.Target == target {
			out[s.Round] = v
		}
	}
	return out
}

// report writes the table of targets, and what it was taken from.
func (b *bench) report(w io.Writer) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%d cores, %s, %d rounds of %s each%s.\n\n", runtime.NumCPU(), runtime.Version(), b.rounds, b.duration, b.noise())
	if b.short || b.kill {
		out.WriteString("So short a run, or one with kills, says what was lost or done twice and nothing of speed.\n\n")
	}
	out.WriteString("| # | what | target | median | rounds |\n|---|---|---|---|---|\n")
	for _, m := range measures {
		for _, r := range m.rows {
			b.reportRow(&out, m, r, r.over)
			b.reportRow(&out, m, r, r.over+beside)
		}
	}
	for _, m := range measures {
		b.reportMeasure(&out, m)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// noise says how many measurements others disturbed.
func (b *bench) noise() string {
	n := 0
	for _, s := range b.samples {
		if s.Noisy {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; the machine was too noisy in %d of %d measurements (others had more than %.2f cores)", n, len(b.samples), b.quiet)
}

func (b *bench) reportRow(out *strings.Builder, m measure, r row, over string) {
	if len(b.only) > 0 && !b.only[r.id] {
		return
	}
	of := b.figures(m.name, over, r.value)
	each := slices.Collect(maps.Values(of))
	if r.under != "" {
		each = ratios(of, b.figures(m.name, r.under, r.value))
	}
	if len(each) == 0 {
		return
	}
	what := r.what
	if strings.HasSuffix(over, beside) {
		what += beside
	}
	slices.Sort(each)
	texts := make([]string, len(each))
	for i, v := range each {
		texts[i] = format(v)
	}
	fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", r.id, what, r.aim, format(median(each)), strings.Join(texts, " "))
}

func (b *bench) reportMeasure(out *strings.Builder, m measure) {
	var targets []string
	used := values{}
	for _, s := range b.samples {
		if s.Measure == m.name {
			if !slices.Contains(targets, s.Target) {
				targets = append(targets, s.Target)
			}
			maps.Copy(used, s.Values)
		}
	}
	if len(targets) == 0 {
		return
	}
	names := order(used)
	fmt.Fprintf(out, "\n%s, medians:\n\n| | %s | others' cores | |\n|---|%s---|---|\n", m.name, strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, t := range targets {
		fmt.Fprintf(out, "| %s |", t)
		for _, name := range names {
			fmt.Fprintf(out, " %s |", format(median(slices.Collect(maps.Values(b.figures(m.name, t, name))))))
		}
		var others []float64
		note := ""
		for _, s := range b.samples {
			if s.Measure != m.name || s.Target != t {
				continue
			}
			others = append(others, s.Foreign)
			if s.Noisy && note == "" {
				note = "noisy"
			}
			if s.Fault != "" {
				note = "FAULT: " + s.Fault
			}
		}
		fmt.Fprintf(out, " %s | %s |\n", format(median(others)), strings.ReplaceAll(note, "\n", " "))
	}
}

func (b *bench) writeJSON() error {
	if b.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(b.samples, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(b.json, append(text, '\n'), 0o644) //nolint:gosec // figures
}
