package streams

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Durability is what a Redis server says of how well it keeps what it confirms.
type Durability struct {
	// Embedded is true for the engine inside the process, which keeps nothing.
	Embedded bool `json:"embedded"`
	// Version is the server's.
	Version string `json:"version,omitempty"`
	// Mode is "standalone", "cluster" or "sentinel", in the server's words.
	Mode string `json:"mode,omitempty"`
	// Role is "master" or "slave", in the server's words.
	Role            string `json:"role,omitempty"`
	MaxmemoryPolicy string `json:"maxmemory_policy,omitempty"`
	AOF             bool   `json:"aof"`
	// AOFWriteOK and BgsaveOK are false when the last one failed.
	AOFWriteOK bool `json:"aof_write_ok"`
	BgsaveOK   bool `json:"bgsave_ok"`
	// Appendfsync is "always", "everysec" or "no", and empty where the server does
	// not let us ask.
	Appendfsync string `json:"appendfsync,omitempty"`
	// RewriteFsync is false when the server does not sync while it rewrites its
	// file (no-appendfsync-on-rewrite), or does not let us ask.
	RewriteFsync bool `json:"rewrite_fsync"`
	// DelayedFsync is how often, since the server's start, a write waited for a sync of
	// the append-only file that was slow; PendingFsync is how many syncs it waits for now.
	DelayedFsync int64 `json:"aof_delayed_fsync"`
	PendingFsync int64 `json:"aof_pending_bio_fsync"`
	// Replicas are attached to the server. AwaitsReplicas is true where it refuses writes
	// when too few of them keep up (min-replicas-to-write).
	Replicas       int64 `json:"replicas,omitempty"`
	AwaitsReplicas bool  `json:"awaits_replicas,omitempty"`
	// Problems are what an operator has to put right, in words; none for a server
	// that is set up to keep what it confirms.
	Problems []string `json:"problems,omitempty"`
}

// Level is "fsync" when a confirmed append has reached the disk, else "redis".
func (d Durability) Level() string {
	if d.AOF && d.Appendfsync == "always" && d.RewriteFsync {
		return DurabilityFsync
	}
	return DurabilityRedis
}

var errLoading = errors.New("it is loading its data")

// Asked is what answers Check: a client, or one connection of it.
type Asked interface {
	Info(ctx context.Context, sections ...string) *redis.StringCmd
	ConfigGet(ctx context.Context, parameter string) *redis.MapStringStringCmd
}

// Check asks a server how it keeps what it confirms. The caller decides what of
// Problems it can live with. An error means that the server could not be asked.
func Check(ctx context.Context, rdb Asked) (Durability, error) {
	text, err := rdb.Info(ctx).Result()
	if err != nil {
		return Durability{}, unavailable("streams: check", err)
	}
	info := parseInfo(text)
	if info["redis_version"] == "" {
		return Durability{
			Embedded: true,
			Problems: []string{"the embedded engine keeps nothing of its own, and its journal is read again at each start: use a Redis server for anything but trying out"},
		}, nil
	}
	d := Durability{Version: info["redis_version"], Mode: mode(info)}
	if foreign := d.foreign(); foreign != "" {
		d.Problems = []string{"the server " + foreign}
		return d, nil
	}
	// While it reads its data a server tells settings that are not in force yet, such
	// as an append-only file that is off.
	if info["loading"] == "1" {
		return Durability{}, unavailable("streams: check", errLoading)
	}
	d.Role = info["role"]
	d.MaxmemoryPolicy = info["maxmemory_policy"]
	d.AOF = info["aof_enabled"] == "1"
	d.AOFWriteOK = info["aof_last_write_status"] == "ok"
	d.BgsaveOK = info["rdb_last_bgsave_status"] == "ok"
	d.DelayedFsync = number(info["aof_delayed_fsync"])
	d.PendingFsync = number(info["aof_pending_bio_fsync"])
	d.Replicas = number(info["connected_slaves"])
	_, d.AwaitsReplicas = info["min_slaves_good_slaves"] // told where the setting is not 0
	// INFO does not say it. An answer that never came is no answer.
	m, err := rdb.ConfigGet(ctx, "*appendfsync*").Result()
	switch {
	case err == nil:
		d.Appendfsync, d.RewriteFsync = m["appendfsync"], m["no-appendfsync-on-rewrite"] == "no"
	case !denied(err):
		return Durability{}, unavailable("streams: check", err)
	}
	d.Problems = d.problems()
	return d, nil
}

// mode is how the server runs. Valkey calls the field by another name unless it is told
// to sound like Redis.
func mode(info map[string]string) string {
	if info["cluster_enabled"] == "1" {
		return modeCluster
	}
	return cmp.Or(info["redis_mode"], info["server_mode"])
}

// Modes of a server that paybell cannot run on, and what to do instead.
const (
	modeCluster  = "cluster"
	modeSentinel = "sentinel"

	cureCluster  = "point streams.redis.address at a single server with cluster-enabled no"
	cureSentinel = "point streams.redis.address at the master it watches"
)

// foreign says, in words, that the server is of a kind that takes no entry of ours
// whatever its settings are; "" where it is not.
func (d Durability) foreign() string {
	switch d.Mode {
	case modeCluster:
		return "is a node of a Redis Cluster, which paybell does not support: " + cureCluster
	case modeSentinel:
		return "is a Redis Sentinel and holds no data: " + cureSentinel
	}
	return ""
}

// denied reports whether a server answered that it does not know CONFIG, which is often
// called otherwise, or does not allow it.
func denied(err error) bool {
	reply, ok := errors.AsType[redis.Error](err)
	return ok && (redis.HasErrorPrefix(err, "NOPERM") || strings.HasPrefix(reply.Error(), "ERR "))
}

func (d Durability) problems() []string {
	var out []string
	if d.Role != "master" {
		out = append(out, "the server is a "+d.Role+" and takes no writes: point redis.address at the master")
	}
	if d.MaxmemoryPolicy != "noeviction" {
		out = append(out, "the server may evict unread events (maxmemory-policy "+d.MaxmemoryPolicy+"): set maxmemory-policy noeviction")
	}
	if !d.AOF {
		out = append(out, "the server forgets what it confirmed when it restarts: set appendonly yes")
	}
	if d.AOF && d.Appendfsync == "no" {
		out = append(out, "the server leaves writing to the operating system: set appendfsync everysec, or always")
	}
	if d.AOF && d.Appendfsync == "always" && !d.RewriteFsync {
		out = append(out, "the server does not sync while it rewrites its append-only file: set no-appendfsync-on-rewrite no")
	}
	if d.AOF && !d.AOFWriteOK {
		out = append(out, "the last write of the append-only file failed: look at the server's disk and log")
	}
	if d.Role == "master" && d.Replicas > 0 && !d.AwaitsReplicas {
		out = append(out, "the server confirms before its replicas have it (min-replicas-to-write 0): "+
			"if a replica that lags is promoted, what was confirmed and it lacks is lost, whatever streams.durability says; "+
			"set min-replicas-to-write 1, which bounds that to the last min-replicas-max-lag seconds")
	}
	if !d.BgsaveOK {
		out = append(out, "the last background save failed, and the server may refuse writes: look at its disk and log")
	}
	return out
}

// parseInfo reads the answer to INFO.
func parseInfo(text string) map[string]string {
	out := make(map[string]string)
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
			out[name] = strings.TrimSpace(value)
		}
	}
	return out
}
