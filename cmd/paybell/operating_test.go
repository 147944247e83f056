package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams/streamstest"
)

// TestCommandsOfTheOperatorsManual runs what docs/operating.md marks with <!-- ci -->, in
// its order, on a deployment that has taken callbacks in; and then every order is there.
func TestCommandsOfTheOperatorsManual(t *testing.T) {
	dsn := effectstest.Postgres(t).Postgres.File
	s := newStack(t, streamstest.Redis(t, streamstest.AOF("everysec")...).Addr(), dsn)
	text := strings.NewReplacer("stripe-main:", "shop-eu:", "streams: {", "streams: {partitions: 0, ").Replace(readFile(t, s.config))
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.account = "shop-eu"
	s.run("migrate")
	gateway := s.start("gateway", s.gatewayURL)
	const callbacks = 40
	for n := range callbacks {
		if !s.post(t.Context(), n) {
			t.Fatalf("callback %d is not accepted", n)
		}
	}
	orders := func() string {
		out, err := exec.CommandContext(t.Context(), "psql", "-Atc", "SELECT count(*) FROM orders WHERE status = 'paid'", strings.TrimSpace(readFile(t, dsn))).CombinedOutput()
		if err != nil {
			return err.Error() + string(out)
		}
		return strings.TrimSpace(string(out))
	}
	all := fmt.Sprint(callbacks)
	worker := s.startAt("worker", freeAddress(t))
	waitUntil(t, time.Minute, "every order is paid", func() bool { return orders() == all })

	blocks := marked(t, "../../docs/operating.md")
	if len(blocks) < 5 {
		t.Fatalf("the manual marks %d blocks", len(blocks))
	}
	for _, block := range blocks {
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", block)
		cmd.Dir = filepath.Dir(s.config)
		cmd.Env = append(os.Environ(), "PAYBELL_CONFIG="+s.config, "DATABASE_URL="+strings.TrimSpace(readFile(t, dsn)),
			"PATH="+filepath.Dir(s.binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s\n%s", err, block, out)
		}
	}
	gateway.kill()
	worker.kill()
	s.start("worker", "")
	s.start("gateway", s.gatewayURL)
	if !s.post(t.Context(), callbacks) {
		t.Error("not accepted afterwards")
	}
	all = fmt.Sprint(callbacks + 1)
	waitUntil(t, time.Minute, "every order is paid afterwards", func() bool { return orders() == all })
}

// marked returns the sh blocks behind the mark <!-- ci -->.
func marked(t *testing.T, path string) (blocks []string) {
	t.Helper()
	for _, after := range strings.Split(readFile(t, path), "<!-- ci -->\n```sh\n")[1:] {
		block, _, _ := strings.Cut(after, "\n```")
		blocks = append(blocks, block)
	}
	return blocks
}
