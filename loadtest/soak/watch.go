package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// What is watched.
const (
	entries = iota // in all partitions
	memory         // Redis, bytes
	gatewayRSS
	workerRSS
	gatewayGoroutines
	workerGoroutines
	things
)

// sample is one look at all of it, when so many events had been sent.
type sample struct {
	sent  int64
	value [things]int64
}

type watched struct {
	samples []sample
	err     error
}

// watch looks four times a second until ctx ends.
func (s *stack) watch(ctx context.Context) (w watched) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return w
		case <-tick.C:
		}
		one, err := s.look(ctx)
		if ctx.Err() != nil {
			return w
		}
		if err != nil {
			w.err = errors.Join(w.err, err)
			return w
		}
		w.samples = append(w.samples, one)
	}
}

func (s *stack) look(ctx context.Context) (out sample, err error) {
	out.sent = s.sent.Load()
	v := &out.value
	if v[entries], err = s.sum(ctx, ":events", s.redis.XLen); err != nil {
		return out, err
	}
	info, err := s.redis.Info(ctx, "memory").Result()
	if err != nil {
		return out, err
	}
	if v[memory], err = field(info, "used_memory:"); err != nil {
		return out, err
	}
	for i, pid := range s.pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return out, err
		}
		kilobytes, err := field(string(status), "VmRSS:")
		if err != nil {
			return out, err
		}
		v[gatewayRSS+i] = kilobytes << 10
		if v[gatewayGoroutines+i], err = goroutines(ctx, []int{s.gateway, s.working}[i]); err != nil {
			return out, err
		}
	}
	return out, nil
}

// sum adds up the sizes of the keys that end alike.
func (s *stack) sum(ctx context.Context, suffix string, size func(context.Context, string) *redis.IntCmd) (n int64, err error) {
	keys, err := s.redis.Keys(ctx, "paybell:*"+suffix).Result()
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		one, err := size(ctx, key).Result()
		if err != nil {
			return 0, err
		}
		n += one
	}
	return n, nil
}

// field is the number that follows a name at the start of a line.
func field(text, name string) (int64, error) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			if words := strings.Fields(rest); len(words) > 0 {
				return strconv.ParseInt(words[0], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("there is no %s", name)
}

func goroutines(ctx context.Context, port int) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", port), nil)
	if err != nil {
		return 0, err
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			return strconv.ParseInt(rest, 10, 64)
		}
	}
	return 0, errors.Join(errors.New("there is no go_goroutines"), lines.Err())
}

// ending is what the orders came to.
type ending struct {
	awarded, applied, dead, parked int64
	behind                         time.Duration
}

// settle returns when every order came to what it must, or what was there when it did
// not in a minute.
func (s *stack) settle(ctx context.Context) (end ending, err error) {
	began := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM points_ledger`).Scan(&end.awarded); err != nil {
			return end, err
		}
		if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&end.applied); err != nil {
			return end, err
		}
		if end.dead, err = s.sum(ctx, ":dead:points", s.redis.XLen); err != nil {
			return end, err
		}
		if end.parked, err = s.sum(ctx, ":parked:points", s.redis.ZCard); err != nil {
			return end, err
		}
		end.behind = time.Since(began)
		if end.parked == 0 && end.dead == bad(s.events) && end.applied == 3*int64(s.events)-end.dead || end.behind > time.Minute {
			return end, nil
		}
		select {
		case <-ctx.Done():
			return end, ctx.Err()
		case <-tick.C:
		}
	}
}

// bad is how many of the first n orders fail for good.
func bad(n int) int64 { return int64((n + every - 1 - forGood) / every) }
