package main_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	_ "modernc.org/sqlite" // the driver

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

// TestG9BacklogLargerThanTheMemoryIsWorkedOff gives a worker that may use 256 MiB a backlog
// of 240 kB callbacks, three groups and short leases. It must never have more in memory than
// it may use, lose no lease, and have every effect once.
func TestG9BacklogLargerThanTheMemoryIsWorkedOff(t *testing.T) {
	const backlog, size, limit = 800, 240_000, 256 << 20
	server := streamstest.Redis(t, streamstest.AOF("everysec")...)
	s := newStack(t, server.Addr(), "unused")
	file := filepath.Join(t.TempDir(), "effects.db")
	s.edit("postgres: {file: \"unused\"}", fmt.Sprintf("sqlite: %q", file))
	s.edit("lease_ttl: 2s", "lease_ttl: 5s")
	fill(t, server.Addr(), backlog, size)

	admin := freeAddress(t)
	t.Setenv("GOMEMLIMIT", strconv.Itoa(limit))
	worker := s.startAt("worker", admin)
	settled := func() (n float64) { return s.metric(admin, "paybell_workers_deliveries_total", `outcome="done"`) }
	waitUntil(t, 4*time.Minute, "everything is settled", func() bool { return settled() >= 3*backlog })

	peak := peakMemory(t, worker)
	t.Logf("peak of %d MiB", peak>>20)
	if peak >= limit {
		t.Errorf("peak of %d bytes, of %d that it may use", peak, limit)
	}
	if n := s.metric(admin, "paybell_workers_lease_losses_total"); n != 0 {
		t.Errorf("%v leases lost", n)
	}
	waitUntil(t, 20*time.Second, "nothing is held any more", func() bool { return s.metric(admin, "paybell_workers_prefetch_bytes ") == 0 })
	if most := s.metric(admin, "paybell_workers_prefetch_bytes_max"); most <= 0 || most > limit/4 {
		t.Errorf("%v bytes may be held", most)
	}
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for what, query := range map[string]string{
		"orders": `SELECT count(*) FROM orders WHERE status = 'paid'`, "event log": `SELECT count(*) FROM event_log`,
		"bodies": `SELECT sum(length(raw)) / 240000 FROM event_log`,
	} {
		var n int
		if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil || n != backlog {
			t.Errorf("%s: %d of %d, %v", what, n, backlog, err)
		}
	}
}

// fill appends n callbacks of orders of their own, each of a size that does not compress.
func fill(t *testing.T, address string, n, size int) {
	t.Helper()
	o := streams.DefaultOptions()
	o.Redis.Address = address
	rdb, err := streams.NewWriteClient(o)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	layout, err := streams.NewLayout(o.Prefix, o.Partitions)
	if err != nil {
		t.Fatal(err)
	}
	w := streams.NewWriter(rdb, layout, o.Writer, prometheus.NewRegistry())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	random := rand.NewChaCha8([32]byte{1})
	for i := range n {
		r := streamstest.Record(fmt.Sprintf("order-%04d", i), 1)
		r.Raw = make([]byte, size)
		_, _ = random.Read(r.Raw) // it never fails
		if _, err := w.Append(ctx, time.Hour, []event.Record{r}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// metric is the sum of the metrics whose lines begin with name and have all labels.
func (s *stack) metric(admin, name string, labels ...string) (sum float64) {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return -1 // it is starting
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, name) {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(line, l) {
				line = ""
			}
		}
		if i := strings.LastIndexByte(line, ' '); i > 0 {
			n, err := strconv.ParseFloat(line[i+1:], 64)
			if err != nil {
				s.t.Fatalf("metric %q: %v", line, err)
			}
			sum += n
		}
	}
	return sum
}

// peakMemory is the most that a process has had in memory (VmHWM).
func peakMemory(t *testing.T, p *process) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			n, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte(" kB"))), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// edit changes the configuration.
func (s *stack) edit(from, to string) {
	s.t.Helper()
	text := readFile(s.t, s.config)
	if !strings.Contains(text, from) {
		s.t.Fatalf("the configuration has no %q", from)
	}
	if err := os.WriteFile(s.config, []byte(strings.ReplaceAll(text, from, to)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}
