package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// sent is what k6 sent and what became of it; see callbacks.js.
type sent struct {
	Sent         int      `json:"sent"`
	Accepted     int      `json:"accepted"`
	Redeliveries int      `json:"redeliveries"`
	Forged       int      `json:"forged"`
	Held         int      `json:"held"`
	RefusedP50   float64  `json:"refused_p50_ms"`
	TrueP50      float64  `json:"true_p50_ms"`
	Dropped      int      `json:"dropped"`
	ChecksFailed int      `json:"checks_failed"`
	P50          float64  `json:"p50_ms"`
	P95          float64  `json:"p95_ms"`
	P99          float64  `json:"p99_ms"`
	Max          float64  `json:"max_ms"`
	Failed       []string `json:"failed"`

	run, scenario string
	unaccepted    []unaccepted
}

// unaccepted is a callback that got no success reply: whether it was kept is open.
type unaccepted struct {
	Callback int    `json:"callback"`
	Status   int    `json:"status"`
	Error    string `json:"error"`
}

// load runs k6. Thresholds that were crossed are in the result, not an error: the
// effects of what was accepted are counted all the same.
func (s *stack) load(ctx context.Context) (*sent, error) {
	summary, console := filepath.Join(s.dir, "k6.json"), filepath.Join(s.dir, "k6-console.log")
	cmd := exec.CommandContext(ctx, s.k6, "run", "--quiet", "--no-usage-report", "--address", "", //nolint:gosec // the operator names the binary
		"--log-format", "raw", "--console-output", console, "callbacks.js")
	cmd.Env = append(os.Environ(),
		fmt.Sprintf("TARGET=http://127.0.0.1:%d", s.publicPort), "RUN="+s.run,
		"RATE="+strconv.Itoa(s.rate), "DURATION="+s.duration.String(),
		"STRIPE_SECRET="+s.stripeSecret, "STANDARD_SECRET="+s.standardSecret, "SUMMARY="+summary,
		"SCENARIO="+s.scenario, "RSA_KEY="+s.rsaKey, "APIV3_KEY="+s.apiv3)
	if s.html != "" {
		// Port -1 listens at none: the report is all that is wanted.
		period := max(time.Second, (s.duration / 100).Round(time.Second))
		cmd.Env = append(cmd.Env, "K6_WEB_DASHBOARD=true", "K6_WEB_DASHBOARD_PERIOD="+period.String(), "K6_WEB_DASHBOARD_PORT=-1", "K6_WEB_DASHBOARD_EXPORT="+s.html)
	}
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	err := cmd.Run()
	var exit *exec.ExitError
	// 99 is k6's word for a threshold that was crossed.
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 99) {
		return nil, fmt.Errorf("k6: %w\n%s", err, text.String())
	}
	out := &sent{run: s.run, scenario: s.scenario}
	b, err := os.ReadFile(summary)
	if err != nil {
		return nil, fmt.Errorf("k6 left no summary: %w\n%s", err, text.String())
	}
	if err := json.Unmarshal(b, out); err != nil {
		return nil, fmt.Errorf("read k6's summary: %w", err)
	}
	f, err := os.Open(console)
	if err != nil {
		return nil, fmt.Errorf("k6 left no console log: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var u unaccepted
		// k6 writes lines of its own here too, about thresholds.
		if json.Unmarshal(lines.Bytes(), &u) == nil {
			out.unaccepted = append(out.unaccepted, u)
		}
	}
	return out, lines.Err()
}
