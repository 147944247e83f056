package streams_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// manyDeadLetters makes n dead letters in each partition, every 37th of another reason.
// Those of the same number have the same id in every partition.
func manyDeadLetters(t *testing.T, b *streamstest.Bench, n int) {
	t.Helper()
	pipe := b.Write.Pipeline()
	for i := range n {
		reason := "attempts"
		if i%37 == 0 {
			reason = "cap"
		}
		for p := range b.Layout.Partitions() {
			pipe.XAdd(t.Context(), &redis.XAddArgs{
				Stream: b.Layout.Dead(p, "points"), ID: fmt.Sprintf("%d-%d", 1000+i/3, i%3),
				Values: []string{"group", "points", "reason", reason},
			})
		}
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// pages lists to the end, and counts the pages that had nothing to show.
func pages(t *testing.T, list func(streams.DeadLetterQuery) (streams.DeadLetterPage, error), q streams.DeadLetterQuery) (ids []string, empty int) {
	t.Helper()
	for {
		page, err := list(q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.DeadLetters) > q.Limit {
			t.Fatalf("a page of %d, want at most %d", len(page.DeadLetters), q.Limit)
		}
		for _, l := range page.DeadLetters {
			ids = append(ids, l.ID)
		}
		if page.Next == "" {
			return ids, empty
		}
		if len(page.DeadLetters) == 0 {
			empty++
		}
		q.After = page.Next
	}
}

// TestSparseListComesInPagesThatEachEnd: however few of a page's dead letters are
// wanted, the pages together are the whole list, in its order.
func TestSparseListComesInPagesThatEachEnd(t *testing.T) {
	t.Run("redis", func(t *testing.T) { sparseList(t, streamstest.Redis(t).Addr()) })
	t.Run("miniredis", func(t *testing.T) { sparseList(t, streamstest.Miniredis(t).Addr()) })
}

func sparseList(t *testing.T, addr string) {
	t.Helper()
	b := streamstest.New(t, addr, func(o *streams.Options) { o.Partitions = 3 })
	manyDeadLetters(t, b, 120)
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	list := func(q streams.DeadLetterQuery) (streams.DeadLetterPage, error) {
		return letters.List(t.Context(), "points", q)
	}
	for _, c := range []struct {
		reason             string
		all, limit, budget int
		empty              bool
	}{
		{"cap", 12, 2, 10, true},
		{"cap", 12, 2, 1, true},
		{"cap", 12, 100, 50, true},
		{"age", 0, 2, 100, true},
		{"", 360, 5, 7, false},
		{"", 360, 7, 5, false},
		{"", 360, 5, 5, false},
	} {
		whole, _ := pages(t, list, streams.DeadLetterQuery{Reason: c.reason, Limit: 1000, Scan: 1000})
		parts, empty := pages(t, list, streams.DeadLetterQuery{Reason: c.reason, Limit: c.limit, Scan: c.budget})
		if len(whole) != c.all || !slices.Equal(whole, parts) || empty > 0 != c.empty {
			t.Errorf("%+v: %d in one page, %d in pages of which %d are empty", c, len(whole), len(parts), empty)
		}
	}
}

// slowly is a server that takes its time for every read.
type slowly struct{ took time.Duration }

func (slowly) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (slowly) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (s slowly) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		select {
		case <-time.After(s.took):
		case <-ctx.Done():
			return ctx.Err()
		}
		return next(ctx, cmds)
	}
}

// TestPageEndsBeforeItsRequestDoes: a list that takes longer than a request may comes
// in as many requests as it needs.
func TestPageEndsBeforeItsRequestDoes(t *testing.T) {
	b := streamstest.New(t, streamstest.Miniredis(t).Addr(), func(o *streams.Options) { o.Partitions = 1 })
	manyDeadLetters(t, b, 1500)
	b.Write.AddHook(slowly{50 * time.Millisecond})
	letters := streams.NewDeadLetters(b.Write, b.Layout)
	asked := 0
	got, _ := pages(t, func(q streams.DeadLetterQuery) (streams.DeadLetterPage, error) {
		asked++
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return letters.List(ctx, "points", q)
	}, streams.DeadLetterQuery{Reason: "cap", Limit: 100})
	if len(got) != 41 || asked < 2 {
		t.Errorf("%d dead letters in %d requests, want 41 in several", len(got), asked)
	}
}
