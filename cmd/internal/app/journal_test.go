package app_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/journal"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// retired is the configuration of a gateway that has ended with events in its journal.
func retired(t *testing.T, server *streamstest.Server, events int) *configs.Config {
	t.Helper()
	server.Kill()
	cfg := besideRedis(t, server.Addr())
	cfg.Journal.Mode = gateway.JournalFallback
	a, err := app.New(t.Context(), cfg, app.Role{Gateway: true}, slog.New(slog.DiscardHandler), "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	r := &running{t: t, app: a, cfg: cfg}
	for n := range events {
		if code, body := r.send("alipay-sandbox", sample(t, fmt.Sprint("J", n), "1.00", "CNY")); code != http.StatusOK {
			t.Errorf("reply %d %q", code, body)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	client.CloseIdleConnections()
	wantJournaled(t, cfg, events)
	return cfg
}

func wantJournaled(t *testing.T, cfg *configs.Config, events int) {
	t.Helper()
	in, err := journal.Inspect(cfg.Journal.Dir)
	if err != nil || in.Payloads != events || in.Quarantined != 0 {
		t.Fatalf("the journal holds %d events and %d bytes in quarantine, %v, want %d and 0", in.Payloads, in.Quarantined, err, events)
	}
}

// TestJournalIsNotDrainedIntoAServerThatForgets: the journal's copy is the only one on a
// disk. The server is refused when it is asked at the start, and gets nothing when it is
// away then and turns out to forget.
func TestJournalIsNotDrainedIntoAServerThatForgets(t *testing.T) {
	server := streamstest.Redis(t)
	const events = 3
	cfg := retired(t, server, events)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() }) // nothing is owed to it
	wantEmpty := func() {
		t.Helper()
		if n, err := rdb.DBSize(t.Context()).Result(); err != nil || n != 0 {
			t.Fatalf("%d keys in the server, %v, want none", n, err)
		}
		wantJournaled(t, cfg, events)
	}
	log := slog.New(slog.DiscardHandler)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- app.DrainJournal(ctx, cfg, log, nil) }()
	server.Restart()
	streamstest.Eventually(t, "the server is asked during the drain", func() bool {
		return strings.Contains(rdb.Info(t.Context(), "commandstats").Val(), "cmdstat_config|get")
	})
	stop()
	if err := <-ended; err == nil {
		t.Error("a journal was drained into a server that forgets")
	}
	wantEmpty()

	var config *app.ConfigError
	if err := app.DrainJournal(t.Context(), cfg, log, nil); !errors.As(err, &config) || !errors.Is(err, streams.ErrDurability) {
		t.Errorf("drain = %v, want a configuration error that says what the server lacks", err)
	}
	wantEmpty()

	cfg.Streams.Accept = []string{streams.AcceptNoAOF}
	if err := app.DrainJournal(t.Context(), cfg, log, nil); err != nil {
		t.Errorf("drain with %s accepted: %v", streams.AcceptNoAOF, err)
	}
	if got := inStreams(t, rdb, cfg); len(got) != events {
		t.Errorf("%d events in the streams, want %d", len(got), events)
	}
	wantJournaled(t, cfg, 0)
}
