package app

import (
	"slices"
	"testing"

	"github.com/paybell/paybell/configs"
)

// TestBoundsFitTheProcess: what was not given is a share, what is too much is lowered and
// said, and what Redis, the database and the journal have open is left to them.
func TestBoundsFitTheProcess(t *testing.T) {
	both := Role{Gateway: true, Workers: true}
	for name, tc := range map[string]struct {
		role                            Role
		memory                          int64
		files                           int
		bodies, connections, queueBytes int
		notes                           []string
	}{
		"room for all": {both, 1 << 30, 1 << 20, 64 << 20, 4096, 64 << 20, nil},
		"256 MiB": {both, 256 << 20, 1 << 20, 16 << 20, 1024, 16 << 20, []string{
			"gateway.max_connections: 1024, not 4096: each may take 64 KiB of a quarter of 256 MiB",
			"streams.writer.queue_bytes: 16777216, not 67108864: a sixteenth of 256 MiB",
		}},
		// 64 of its own, 32 and 20 to Redis, 16 and 4 to the database.
		"1024 files": {both, 1 << 30, 1024, 64 << 20, 1024 - 64 - 52 - 20, 64 << 20, []string{
			"gateway.max_connections: 888, not 4096: the process may not open more files (ulimit -n)",
		}},
		"1024 files without a database": {Role{Gateway: true}, 1 << 30, 1024, 64 << 20, 1024 - 64 - 52, 64 << 20, []string{
			"gateway.max_connections: 908, not 4096: the process may not open more files (ulimit -n)",
		}},
		"no door": {Role{Workers: true}, 64 << 20, 100, 0, 4096, 64 << 20, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := configs.Default()
			c.Streams.Redis.Address = "127.0.0.1:6379"
			notes := size(&c, tc.role, tc.memory, tc.files)
			if !slices.Equal(notes, tc.notes) {
				t.Errorf("notes %q, want %q", notes, tc.notes)
			}
			if c.Gateway.BodyMemory != tc.bodies || c.Gateway.MaxConnections != tc.connections || c.Streams.Writer.QueueBytes != tc.queueBytes {
				t.Errorf("bodies %d, connections %d, queue %d", c.Gateway.BodyMemory, c.Gateway.MaxConnections, c.Streams.Writer.QueueBytes)
			}
			if again := size(&c, tc.role, tc.memory, tc.files); len(again) != 0 {
				t.Errorf("a second time: %q", again)
			}
		})
	}
}

// TestPrefetchFitsTheProcess: what was given and is more than a fifth is lowered and said.
func TestPrefetchFitsTheProcess(t *testing.T) {
	for given, want := range map[int64]int64{0: 0, 8 << 20: 8 << 20, 1 << 30: 64 << 20 / prefetchShare} {
		c := configs.Default()
		c.Groups.PrefetchBytes = given
		notes := size(&c, Role{Workers: true}, 64<<20, 1<<20)
		if c.Groups.PrefetchBytes != want || len(notes) > 0 != (given > want) {
			t.Errorf("%d becomes %d, want %d; notes %q", given, c.Groups.PrefetchBytes, want, notes)
		}
	}
}
