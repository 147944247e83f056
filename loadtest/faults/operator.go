package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/paybell/paybell/loadtest/faults/traffic"
)

// operator asks a process's operator's door.
var operator = &http.Client{Timeout: 5 * time.Second}

// ask sends a request to a slot's process and hands its answer to read. body is JSON,
// nil for a GET.
func (s *slot) ask(ctx context.Context, path string, body any, read func(resp *http.Response) error) error {
	method, text := http.MethodGet, []byte(nil)
	if body != nil {
		method = http.MethodPost
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", s.admin, path), bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := operator.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s of %s: %s", path, s.name, resp.Status)
	}
	return read(resp)
}

// metric is a metric without labels of a slot's process.
func (s *slot) metric(ctx context.Context, name string) (value float64, err error) {
	err = s.ask(ctx, "/metrics", nil, func(resp *http.Response) error {
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
				value, err = strconv.ParseFloat(text, 64)
				return err
			}
		}
		return fmt.Errorf("%s has no %s: %w", s.name, name, lines.Err())
	})
	return value, err
}

// journals names a gateway whose journal is not empty; "" when all are.
func (st *stack) journals(ctx context.Context) string {
	for _, s := range st.slots {
		if s.kind != "gateway" {
			continue
		}
		if n, err := s.metric(ctx, "paybell_journal_events"); err != nil || n > 0 {
			return fmt.Sprintf("the journal of %s holds %v events, %v", s.name, n, err)
		}
	}
	return ""
}

// deadPage is the most dead letters that one request may be about.
const deadPage = 500

// replayDead replays the dead letters through whichever worker answers, while
// processes are killed. Poison stays poison, so the same have to be there in the end.
func (c *course) replayDead(ctx context.Context) error {
	var ids []string
	err := c.anyWorker(ctx, func(s *slot) (err error) {
		ids, err = s.deadLetters(ctx)
		return err
	})
	if err != nil {
		return err
	}
	c.spareAll(false)
	defer c.spareAll(true)
	for len(ids) > 0 {
		few := ids[:min(10, len(ids))]
		ids = ids[len(few):]
		// A worker may be killed when it has replayed some; the next calls those missing.
		if err := c.anyWorker(ctx, func(s *slot) error {
			return s.ask(ctx, "/api/v1/deadletters/points/replay", map[string]any{"ids": few}, func(*http.Response) error { return nil })
		}); err != nil {
			return err
		}
		c.tally.again(len(few))
		pause(ctx, 200*time.Millisecond)
	}
	pause(ctx, 2*c.o.lifetime)
	return nil
}

// deadLetters are the dead letters of the group points, as its processes name them. Of
// the poison that takes long to die again there is one of each kind.
func (s *slot) deadLetters(ctx context.Context) (ids []string, err error) {
	slow := map[traffic.Poison]bool{}
	cursor := ""
	for {
		var page struct {
			DeadLetters []struct {
				ID       string `json:"id"`
				OrderRef string `json:"order_ref"`
			} `json:"dead_letters"`
			Cursor string `json:"cursor"`
		}
		path := fmt.Sprintf("/api/v1/deadletters/points?limit=%d", deadPage)
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		if err := s.ask(ctx, path, nil, func(resp *http.Response) error { return json.NewDecoder(resp.Body).Decode(&page) }); err != nil {
			return nil, err
		}
	letters:
		for _, d := range page.DeadLetters {
			for _, kind := range []traffic.Poison{traffic.Hangs, traffic.Kills} {
				if strings.Contains(d.OrderRef, string(kind)) {
					if slow[kind] {
						continue letters
					}
					slow[kind] = true
				}
			}
			ids = append(ids, d.ID)
		}
		if cursor = page.Cursor; cursor == "" {
			return ids, nil
		}
	}
}

// anyWorker does something through the first worker that can do it.
func (c *course) anyWorker(ctx context.Context, do func(s *slot) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var err error
	for {
		for _, s := range c.slots {
			if s.kind == "worker" {
				if err = do(s); err == nil {
					return nil
				}
			}
		}
		if !pause(ctx, 200*time.Millisecond) {
			return fmt.Errorf("no worker does what an operator asks: %w", err)
		}
	}
}
