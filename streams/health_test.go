package streams_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

func check(t *testing.T, addr string) streams.Durability {
	t.Helper()
	d, err := streams.Check(t.Context(), streamstest.New(t, addr).Write)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestG1DurabilityIsToldAsItIs(t *testing.T) {
	master := streamstest.Redis(t, streamstest.AOF("always")...)
	with := func(args ...string) string {
		return streamstest.Redis(t, append(streamstest.AOF("always"), args...)...).Addr()
	}
	for _, c := range []struct {
		name     string
		addr     string
		level    string
		embedded bool
		problems []string
	}{
		{"always", with(), "fsync", false, nil},
		{"everysec", streamstest.Redis(t, streamstest.AOF("everysec")...).Addr(), "redis", false, nil},
		{"fsync left to the system", streamstest.Redis(t, streamstest.AOF("no")...).Addr(), "redis", false, []string{"appendfsync"}},
		{"no file", streamstest.Redis(t).Addr(), "redis", false, []string{"appendonly yes"}},
		{"eviction", with("--maxmemory-policy", "allkeys-lru"), "fsync", false, []string{"maxmemory-policy noeviction"}},
		{"replica", with("--replicaof", "127.0.0.1", master.Port()), "fsync", false, []string{"takes no writes"}},
		{"cluster node", with(streamstest.ClusterNode(t)...), "redis", false, []string{"cluster-enabled no"}},
		{"sentinel", streamstest.Sentinel(t).Addr(), "redis", false, []string{"at the master it watches"}},
		{"embedded", streamstest.Miniredis(t).Addr(), "redis", true, []string{"keeps nothing of its own"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := check(t, c.addr)
			if d.Embedded != c.embedded || d.Level() != c.level || len(d.Problems) != len(c.problems) {
				t.Fatalf("%+v, level %s", d, d.Level())
			}
			for i, want := range c.problems {
				if !strings.Contains(d.Problems[i], want) {
					t.Errorf("problem %q does not say %q", d.Problems[i], want)
				}
			}
		})
	}
}

func TestG1DurabilityWithoutLeaveToAsk(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t, streamstest.AOF("always")...).Addr())
	if err := b.Write.Do(t.Context(), "ACL", "SETUSER", "default", "-config").Err(); err != nil {
		t.Fatal(err)
	}
	d, err := streams.Check(t.Context(), b.Write)
	if err != nil || d.Appendfsync != "" || d.Level() != "redis" {
		t.Fatalf("%+v, %v: what cannot be asked is not assumed", d, err)
	}
}

func TestCheckOfNoServer(t *testing.T) {
	server := streamstest.Redis(t)
	b := streamstest.New(t, server.Addr())
	server.Kill()
	if _, err := streams.Check(t.Context(), b.Write); !errors.Is(err, streams.ErrUnavailable) {
		t.Fatalf("err = %v", err)
	}
}
