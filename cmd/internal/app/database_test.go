package app_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/paybell/paybell/streams/streamstest"
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
	r := start(t, databaseAt(t, nobody))
	if code, body := r.ready(); code != http.StatusOK {
		t.Errorf("/readyz: %d %q", code, body)
	}
}

// databaseAt is the setting that names a PostgreSQL database.
func databaseAt(t *testing.T, address string) string {
	t.Helper()
	dsn := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(dsn, []byte("postgres://paybell@"+address+"/paybell?sslmode=disable"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "database.postgres.file=" + dsn
}

// mute takes connections and says nothing.
type mute struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func listenMute(t *testing.T) *mute {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mute{Listener: l}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			m.mu.Lock()
			m.conns = append(m.conns, c)
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		m.end()
		<-ended
	})
	return m
}

// asked is how many connections were made.
func (m *mute) asked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.conns)
}

func (m *mute) end() {
	_ = m.Close() // it may have been closed before
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		_ = c.Close() // as above
	}
}

// TestDatabaseThatHangsAtTheStartKeepsTheDoorOpen: one that takes the connection and
// never answers is as good as away, and is asked again.
func TestDatabaseThatHangsAtTheStartKeepsTheDoorOpen(t *testing.T) {
	m := listenMute(t)
	const bound = 10 * time.Second
	began := time.Now()
	late := time.AfterFunc(bound, m.end) // or the test would hang where the process does
	defer late.Stop()
	r := start(t, databaseAt(t, m.Addr().String()), "groups.eventlog.enabled=false")
	if took := time.Since(began); took >= bound {
		t.Fatalf("the process was built after %s", took)
	}
	late.Stop()
	if code, body := r.ready(); code != http.StatusOK {
		t.Errorf("/readyz: %d %q", code, body)
	}
	before := m.asked()
	streamstest.Eventually(t, "the database is asked again, although it did not answer the last time", func() bool { return m.asked() >= before+2 })
}
