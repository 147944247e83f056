package app_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// TestDatabaseAwayAtTheStartKeepsTheDoorOpen: a callback can be kept without the
// database, so nothing is refused while it is away.
func TestDatabaseAwayAtTheStartKeepsTheDoorOpen(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dsn := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(dsn, []byte("postgres://paybell@"+nobody+"/paybell?sslmode=disable"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, "database.postgres.file="+dsn)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.app.Addr().String()+"/readyz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("/readyz: %s", resp.Status)
	}
}
