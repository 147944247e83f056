package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paybell/paybell/streams/streamstest"
)

// TestJournalWithoutRoomAsksToComeAgainAndRecovers: Redis is away and the journal's
// bound, or its disk, leaves no room. Callbacks get their retryable reply, /readyz says
// no, and when there is room again, or Redis is back, callbacks are accepted without a
// restart; what was accepted is in the streams, once.
func TestJournalWithoutRoomAsksToComeAgainAndRecovers(t *testing.T) {
	t.Run("its bound", func(t *testing.T) {
		g := newAway(t, "--set", "journal.max_bytes=16384", "--set", "journal.segment_bytes=8192")
		g.fill(t)
		g.server.Restart()
		g.empty(t)
		g.takes(t)
	})
	t.Run("its disk", func(t *testing.T) {
		g := newAway(t)
		g.room(t, 10_000) // no file of the process may grow beyond it
		g.fill(t)
		g.room(t, unix.RLIM_INFINITY)
		g.takes(t) // into the journal: Redis is still away
		g.server.Restart()
		g.empty(t)
	})
}

// TestRemovedJournalConfirmsNothingMore: the directory is removed under a gateway whose
// Redis is away. From then on callbacks get their retryable reply; what was confirmed
// before is brought to Redis when that is back, which then takes callbacks as ever.
func TestRemovedJournalConfirmsNothingMore(t *testing.T) {
	g := newAway(t)
	for range 9 {
		g.takes(t)
	}
	dir := filepath.Join(g.dir, "journal")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	g.fill(t)
	if g.accepted != 9 {
		t.Errorf("%d callbacks were confirmed into files that are removed", g.accepted-9)
	}
	if !strings.Contains(g.log(t), "journal was removed or replaced under the running process") || !strings.Contains(g.log(t), "payloads=9 ") {
		t.Errorf("it was not said:\n%s", g.log(t))
	}
	g.server.Restart()
	g.empty(t)
	g.takes(t)
	g.p.kill()
	g.start(t)
	g.server.Kill()
	g.takes(t) // into the journal of the next process
	g.server.Restart()
	g.empty(t)
}

// TestDamagedJournalIsSaidLoudlyAndTheRestIsUsed damages the journal of a gateway that
// was killed, in the middle, and starts it again.
func TestDamagedJournalIsSaidLoudlyAndTheRestIsUsed(t *testing.T) {
	g := newAway(t)
	const callbacks = 9
	for range callbacks {
		g.takes(t)
	}
	g.p.kill()
	segments, err := filepath.Glob(filepath.Join(g.dir, "journal", "*.journal"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, []byte("evt_000004"))] ^= 1
	if err := os.WriteFile(segments[0], b, 0o600); err != nil { //nolint:gosec // a path of the test
		t.Fatal(err)
	}
	g.server.Restart()
	g.start(t)
	if !strings.Contains(g.log(t), "journal is damaged") {
		t.Errorf("it was not said:\n%s", g.log(t))
	}
	g.accepted-- // the damaged one is lost to the streams
	g.empty(t)
	kept, err := filepath.Glob(filepath.Join(g.dir, "journal", "quarantine", "*.damaged"))
	if err != nil || len(kept) != 1 {
		t.Errorf("quarantine: %v, %v", kept, err)
	}
	g.takes(t)
	g.empty(t)
}

// away is a gateway whose Redis is away.
type away struct {
	*stack
	server   *streamstest.Server
	p        *process
	dir      string
	admin    string
	flags    []string
	next     int
	accepted int64
}

func newAway(t *testing.T, flags ...string) *away {
	t.Helper()
	g := &away{server: streamstest.Redis(t, streamstest.AOF("always")...)}
	g.stack = newStack(t, g.server.Addr(), "unused")
	g.dir, g.flags = t.TempDir(), flags
	g.start(t)
	g.server.Kill()
	return g
}

// start runs the gateway; what it logs goes to a file.
func (g *away) start(t *testing.T) {
	t.Helper()
	g.admin = freeAddress(t)
	logs, err := os.OpenFile(filepath.Join(g.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close() // the process has its own
	cmd := g.command(append([]string{"gateway", "--set", "admin.address=" + g.admin, "--set", "data_dir=" + g.dir}, g.flags...)...)
	cmd.Stderr = logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g.p = &process{t, cmd}
	t.Cleanup(g.p.kill)
	waitUntil(t, 20*time.Second, "the gateway is ready", func() bool { return strings.HasPrefix(g.get(t.Context(), g.gatewayURL+"/readyz"), "200") })
}

func (g *away) log(t *testing.T) string {
	t.Helper()
	return readFile(t, filepath.Join(g.dir, "log"))
}

// get is status and body of an answer, "" without one.
func (g *away) get(ctx context.Context, url string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return ""
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return ""
	}
	return fmt.Sprint(resp.StatusCode, " ", string(b))
}

// room bounds how long any file of the process may become.
func (g *away) room(t *testing.T, bytes uint64) {
	t.Helper()
	if err := unix.Prlimit(g.p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil); err != nil {
		t.Fatal(err)
	}
}

// takes sends callbacks until one is accepted.
func (g *away) takes(t *testing.T) {
	t.Helper()
	waitUntil(t, 20*time.Second, "a callback is accepted", func() bool { return g.post(t.Context(), g.next) })
	g.next++
	g.accepted++
}

// fill sends until the journal has no room, and /readyz says so. Every reply that is not
// a success asks to come again: post fails the test otherwise.
func (g *away) fill(t *testing.T) {
	t.Helper()
	for g.post(t.Context(), g.next) {
		g.next++
		if g.accepted++; g.accepted > 100 {
			t.Fatal("there was always room")
		}
	}
	if g.accepted == 0 {
		t.Fatal("there was no room at all")
	}
	waitUntil(t, 10*time.Second, "/readyz says no", func() bool {
		return strings.HasPrefix(g.get(t.Context(), g.gatewayURL+"/readyz"), "503 not ready: ")
	})
}

// empty waits until the journal is, and counts the entries.
func (g *away) empty(t *testing.T) {
	t.Helper()
	waitUntil(t, 20*time.Second, "the journal is empty", func() bool {
		return strings.Contains(g.get(t.Context(), "http://"+g.admin+"/metrics"), "\npaybell_journal_events 0\n")
	})
	if n := entries(t, g.server.Addr()); n != g.accepted {
		t.Errorf("%d entries of %d accepted callbacks", n, g.accepted)
	}
}
