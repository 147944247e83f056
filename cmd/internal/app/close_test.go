package app_test

import (
	"log/slog"
	"net"
	"testing"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
)

// TestCloseWithoutRun leaves nothing open: no goroutine (TestMain looks), no listener.
func TestCloseWithoutRun(t *testing.T) {
	cfg, err := configs.Load(configs.Input{Set: []string{
		"data_dir=" + t.TempDir(), "gateway.address=127.0.0.1:0", "admin.address=127.0.0.1:0", "embedded.address=127.0.0.1:0",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.AddSandbox(cfg, true); err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), cfg, app.Role{Gateway: true, Workers: true}, slog.New(slog.DiscardHandler), "test")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, addr := range []net.Addr{a.Addr(), a.AdminAddr()} {
		l, err := net.Listen("tcp", addr.String()) //nolint:noctx // it is closed at once
		if err != nil {
			t.Errorf("still open: %v", err)
			continue
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
