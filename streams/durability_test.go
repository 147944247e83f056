package streams_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

// promise are options with this durability.
func promise(level string, accept ...string) streams.Options {
	o := streams.DefaultOptions()
	o.Durability, o.Accept = level, accept
	return o
}

func TestG1ServerThatCannotKeepThePromiseIsRefused(t *testing.T) {
	good := streams.Durability{
		Role: "master", MaxmemoryPolicy: "noeviction", AOF: true, AOFWriteOK: true, BgsaveOK: true,
		Appendfsync: "always", RewriteFsync: true,
	}
	with := func(change func(*streams.Durability)) streams.Durability {
		d := good
		change(&d)
		return d
	}
	everysec := with(func(d *streams.Durability) { d.Appendfsync = "everysec" })
	noAOF := with(func(d *streams.Durability) { d.AOF, d.AOFWriteOK = false, true })
	eviction := with(func(d *streams.Durability) { d.MaxmemoryPolicy = "allkeys-lru" })
	lazy := with(func(d *streams.Durability) { d.Appendfsync = "no" })
	silent := with(func(d *streams.Durability) { d.Appendfsync, d.RewriteFsync = "", false })
	failed := with(func(d *streams.Durability) { d.AOFWriteOK = false })
	rewrite := with(func(d *streams.Durability) { d.RewriteFsync = false })
	for _, c := range []struct {
		name   string
		server streams.Durability
		o      streams.Options
		lacks  string
	}{
		{"fsync, and it syncs", good, promise("fsync"), ""},
		{"fsync of everysec", everysec, promise("fsync"), "appendfsync is everysec"},
		{"fsync of everysec accepts nothing", everysec, promise("fsync", "unverified", "appendfsync-no"), "appendfsync is everysec"},
		{"fsync without a file", noAOF, promise("fsync"), "appendonly yes"},
		{"fsync but for rewrites", rewrite, promise("fsync"), "no-appendfsync-on-rewrite"},
		{"fsync that cannot be asked", silent, promise("fsync"), "accept unverified"},
		{"fsync that need not be asked", silent, promise("fsync", "unverified"), ""},
		{"redis of everysec", everysec, promise("redis"), ""},
		{"redis but for rewrites", rewrite, promise("redis"), ""},
		{"redis that cannot be asked", silent, promise("redis"), ""},
		{"redis without a file", noAOF, promise("redis"), "accept no-aof"},
		{"redis without a file, by name", noAOF, promise("redis", "no-aof"), ""},
		{"redis that evicts", eviction, promise("redis", "no-aof"), "accept eviction"},
		{"redis that evicts, by name", eviction, promise("redis", "eviction"), ""},
		{"redis that leaves it to the system", lazy, promise("redis"), "accept appendfsync-no"},
		{"redis that leaves it to the system, by name", lazy, promise("redis", "appendfsync-no"), ""},
		{"a failed write is never accepted", failed, promise("redis", "no-aof", "eviction", "appendfsync-no"), "last write"},
		{"a cluster node is never accepted", streams.Durability{Mode: "cluster"}, promise("redis", streams.AcceptNoAOF, streams.AcceptEviction, streams.AcceptAppendfsyncNo, streams.AcceptUnverified), "node of a Redis Cluster"},
		{"a sentinel is never accepted", streams.Durability{Mode: "sentinel"}, promise("redis", streams.AcceptNoAOF, streams.AcceptEviction, streams.AcceptAppendfsyncNo, streams.AcceptUnverified), "Redis Sentinel"},
		{"embedded", streams.Durability{Embedded: true}, promise("fsync"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.server.Breach(c.o)
			if c.lacks == "" && err != nil {
				t.Fatal(err)
			}
			if c.lacks != "" && (!errors.Is(err, streams.ErrDurability) || !strings.Contains(err.Error(), c.lacks)) {
				t.Fatalf("%v does not say %q", err, c.lacks)
			}
		})
	}
}

func TestDurabilityOptions(t *testing.T) {
	for name, c := range map[string]struct {
		o    streams.Options
		want string
	}{
		"no level":         {promise(""), "durability: "},
		"a level of ours":  {promise("replicas"), "durability: "},
		"not on the list":  {promise("redis", "no-aof", "everything"), "accept[1]: "},
		"a contradiction":  {promise("fsync", "no-aof"), "accept: "},
		"what is on it":    {promise("redis", "no-aof", "eviction", "appendfsync-no", "unverified"), ""},
		"the other level":  {promise("fsync", "unverified"), ""},
		"the default ones": {streams.DefaultOptions(), ""},
	} {
		err := c.o.Validate()
		if (c.want == "") != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server that is weakened while the process runs is not appended to, and is again
// once it was put right.
func TestG1WeakenedServerConfirmsNothing(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t, streamstest.AOF("always")...).Addr())
	reg := prometheus.NewRegistry()
	b.Reg = reg
	watch := streams.NewWatch(promise("fsync"), discard(), reg)
	w := streams.NewWriter(b.Write, b.Layout, b.Options.Writer, prometheus.NewRegistry())
	w.Guard(watch.Err)
	defer streamstest.Run(t, w)()
	try := func() error {
		_, err := w.Append(t.Context(), time.Hour, []event.Record{streamstest.Record("A1", 1)})
		return err
	}
	if err := try(); !errors.Is(err, streams.ErrDurability) {
		t.Fatalf("before anybody asked: %v", err)
	}
	for _, c := range []struct {
		setting, value string
		kept           bool
	}{
		{"appendfsync", "always", true},
		{"appendfsync", "everysec", false},
		{"appendfsync", "always", true},
		{"no-appendfsync-on-rewrite", "yes", false},
		{"no-appendfsync-on-rewrite", "no", true},
		{"maxmemory-policy", "allkeys-lru", false},
		{"maxmemory-policy", "noeviction", true},
		{"appendonly", "no", false},
	} {
		if err := b.Write.ConfigSet(t.Context(), c.setting, c.value).Err(); err != nil {
			t.Fatal(err)
		}
		if err := watch.Check(t.Context(), b.Write); (err == nil) != c.kept || (watch.Err() == nil) != c.kept {
			t.Fatalf("%s %s: %v, then %v", c.setting, c.value, err, watch.Err())
		}
		err := try()
		if (err == nil) != c.kept {
			t.Fatalf("%s %s: append: %v", c.setting, c.value, err)
		}
		if err != nil && (!errors.Is(err, streams.ErrUnavailable) || !errors.Is(err, streams.ErrDurability)) {
			t.Fatalf("%s %s: append: %v: is neither retryable nor told", c.setting, c.value, err)
		}
		if got := b.Metric("paybell_streams_durability_kept", "fsync"); (got == 1) != c.kept {
			t.Fatalf("%s %s: metric %v", c.setting, c.value, got)
		}
	}
}

// TestServerThatIsLoadingIsAwayAndBreaksNoPromise: while it reads its file, a server
// says that it has none. Taken at its word, every process that starts meanwhile would
// refuse the configuration for good.
func TestServerThatIsLoadingIsAwayAndBreaksNoPromise(t *testing.T) {
	server := streamstest.Redis(t, append(streamstest.AOF("always"), "--key-load-delay", "200000", "--loading-process-events-interval-bytes", "1024", "--rdbcompression", "no")...)
	b := streamstest.New(t, server.Addr())
	for i := range 10 {
		b.Write.Set(t.Context(), strconv.Itoa(i), strings.Repeat("x", 4<<10), 0)
	}
	if err := b.Write.BgRewriteAOF(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	streamstest.Eventually(t, "the file is rewritten", func() bool {
		info := b.Write.Info(t.Context(), "persistence").Val()
		return strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrites:1")
	})
	server.Kill()
	restarted := make(chan struct{})
	go func() {
		server.Restart()
		close(restarted)
	}()
	loading := 0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-restarted:
			ended = true
		case <-tick.C:
		}
		info := b.Write.Info(t.Context(), "persistence").Val()
		d, err := streams.Check(t.Context(), b.Write)
		if err == nil {
			err = d.Breach(promise("fsync"))
		}
		if err != nil && !errors.Is(err, streams.ErrUnavailable) {
			t.Fatal(err)
		}
		if strings.Contains(info, "loading:1") {
			loading++
		}
	}
	if loading == 0 {
		t.Error("the server was never seen loading")
	}
}

// TestG1ServerThatComesBackWeakerConfirmsNothing: it was restarted without its
// append-only file, say. Nothing is appended to it, not even in the minute before it
// would have been asked again, while others hold their connections to it.
func TestG1ServerThatComesBackWeakerConfirmsNothing(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("always")...)
	b := streamstest.New(t, server.Addr())
	o := promise("fsync")
	o.Redis.Address = server.Addr()
	watch := streams.NewWatch(o, discard(), prometheus.NewRegistry())
	rdb, err := streams.NewWriteClient(o, watch.Look)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()
	w := streams.NewWriter(rdb, b.Layout, b.Options.Writer, prometheus.NewRegistry())
	w.Guard(watch.Err)
	defer streamstest.Run(t, w)()
	// Content before it runs, it looks again in a minute.
	if err := watch.Check(t.Context(), rdb); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- watch.Run(ctx, rdb) }()
	appended := 0
	try := func() error {
		_, err := w.Append(t.Context(), time.Hour, streamstest.Records("A"+strconv.Itoa(appended), 1))
		if err == nil {
			appended++
		}
		return err
	}
	if err := try(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	server.RestartWith("--appendonly", "no")
	for range 20 {
		if err := try(); err == nil {
			t.Fatal("the weaker server was appended to")
		}
	}
	if !errors.Is(watch.Err(), streams.ErrDurability) {
		t.Errorf("the watch says %v", watch.Err())
	}
	server.Kill()
	server.Restart()
	streamstest.Eventually(t, "it is appended to again", func() bool { return try() == nil })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestG1ServerThatComesBackAsAClusterNodeConfirmsNothing: it takes the place of the one
// that was asked at the start, and every new connection asks again.
func TestG1ServerThatComesBackAsAClusterNodeConfirmsNothing(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("everysec")...)
	o := promise("redis")
	o.Redis.Address = server.Addr()
	watch := streams.NewWatch(o, discard(), prometheus.NewRegistry())
	rdb, err := streams.NewWriteClient(o, watch.Look)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()
	if err := watch.Check(t.Context(), rdb); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	server.RestartWith(streamstest.ClusterNode(t)...)
	streamstest.Eventually(t, "the watch has met the node", func() bool {
		_ = rdb.Ping(t.Context()) // the broken connections are used up first
		return errors.Is(watch.Err(), streams.ErrDurability) && strings.Contains(watch.Err().Error(), "node of a Redis Cluster")
	})
}

// TestReplicasThatNobodyWaitsForAreTold: nothing is refused, because nobody may ever promote
// one, but the log and the status say what a promotion loses. It is told once, when the
// replica is attached, and no more once the server waits for it.
func TestReplicasThatNobodyWaitsForAreTold(t *testing.T) {
	master := streamstest.Redis(t, append(streamstest.AOF("always"), "--repl-diskless-sync-delay", "0")...)
	b := streamstest.New(t, master.Addr())
	var logs bytes.Buffer
	watch := streams.NewWatch(promise("fsync"), slog.New(slog.NewTextHandler(&logs, nil)), prometheus.NewRegistry())
	const lost = "if a replica that lags is promoted, what was confirmed and it lacks is lost"
	// told looks again, and returns whether the problem stands and how often it was logged.
	told := func() (bool, int) {
		t.Helper()
		d, err := streams.Check(t.Context(), b.Write)
		if err == nil {
			err = watch.Check(t.Context(), b.Write)
		}
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(strings.Join(d.Problems, "; "), lost), strings.Count(logs.String(), lost)
	}
	if stands, logged := told(); stands || logged != 0 {
		t.Fatalf("without a replica: stands %v, logged %d times", stands, logged)
	}
	replica := streamstest.New(t, streamstest.Redis(t, "--replicaof", "127.0.0.1", master.Port()).Addr())
	streamstest.Eventually(t, "the replica is attached and told", func() bool { stands, _ := told(); return stands })
	for range 3 {
		if stands, logged := told(); !stands || logged != 1 {
			t.Errorf("with a replica: stands %v, logged %d times, want once", stands, logged)
		}
	}
	if d, err := streams.Check(t.Context(), replica.Write); err != nil || len(d.Problems) == 0 || strings.Contains(strings.Join(d.Problems, "; "), lost) {
		t.Errorf("the replica itself: %+v, %v", d, err)
	}
	if err := b.Write.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if stands, logged := told(); stands || logged != 1 {
		t.Errorf("with min-replicas-to-write 1: stands %v, logged %d times", stands, logged)
	}
}

// infoOf answers INFO with a text of its own.
type infoOf struct {
	streams.Asked
	text string
}

func (i infoOf) Info(ctx context.Context, _ ...string) *redis.StringCmd {
	cmd := redis.NewStringCmd(ctx, "info")
	cmd.SetVal(i.text)
	return cmd
}

// TestSlowSyncsAreMeasured: no test makes a disk slow, so the server's own answer is changed.
func TestSlowSyncsAreMeasured(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t, streamstest.AOF("everysec")...).Addr())
	reg := prometheus.NewRegistry()
	b.Reg = reg
	watch := streams.NewWatch(promise("redis"), discard(), reg)
	info := b.Write.Info(t.Context()).Val()
	slow := strings.NewReplacer("aof_delayed_fsync:0\r", "aof_delayed_fsync:7\r", "aof_pending_bio_fsync:0\r", "aof_pending_bio_fsync:2\r").Replace(info)
	if err := watch.Check(t.Context(), infoOf{b.Write, slow}); err != nil {
		t.Fatal(err)
	}
	if delayed, pending := b.Metric("paybell_streams_redis_aof_delayed_fsync"), b.Metric("paybell_streams_redis_aof_pending_bio_fsync"); delayed != 7 || pending != 2 {
		t.Errorf("delayed %v, pending %v, want 7 and 2", delayed, pending)
	}
}

// TestServerWhoseConfigIsHiddenIsNotAway: CONFIG is renamed, as hosted servers do.
func TestServerWhoseConfigIsHiddenIsNotAway(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t, append(streamstest.AOF("everysec"), "--rename-command", "CONFIG", "")...).Addr())
	d, err := streams.Check(t.Context(), b.Write)
	if err != nil || !d.AOF || d.Appendfsync != "" {
		t.Fatalf("%+v, %v", d, err)
	}
	if err := d.Breach(promise("redis")); err != nil {
		t.Errorf("redis: %v", err)
	}
	if err := d.Breach(promise("fsync")); err == nil || !strings.Contains(err.Error(), "accept unverified") {
		t.Errorf("fsync: %v", err)
	}
}

// cutConfig loses the connection with every CONFIG.
type cutConfig struct{ redis.Hook }

func (cutConfig) DialHook(next redis.DialHook) redis.DialHook { return next }
func (cutConfig) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (cutConfig) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "config" {
			cmd.SetErr(io.EOF)
			return io.EOF
		}
		return next(ctx, cmd)
	}
}

// TestLostAnswerBreaksNoPromise: a connection that is cut while the server is asked
// tells nothing about it.
func TestLostAnswerBreaksNoPromise(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t, streamstest.AOF("always")...).Addr())
	b.Write.AddHook(cutConfig{})
	if d, err := streams.Check(t.Context(), b.Write); !errors.Is(err, streams.ErrUnavailable) {
		t.Fatalf("%+v, %v", d, err)
	}
}

func TestWatchAsksUntilItIsAnswered(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("always")...)
	b := streamstest.New(t, server.Addr())
	server.Kill()
	watch := streams.NewWatch(promise("fsync"), discard(), prometheus.NewRegistry())
	if err := watch.Check(t.Context(), b.Write); !errors.Is(err, streams.ErrUnavailable) || !errors.Is(watch.Err(), streams.ErrDurability) {
		t.Fatalf("%v, then %v", err, watch.Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- watch.Run(ctx, b.Write) }()
	server.Restart()
	streamstest.Eventually(t, "the server is asked again", func() bool { return watch.Err() == nil })
	weaken := func(policy string) {
		t.Helper()
		if err := b.Write.ConfigSet(t.Context(), "maxmemory-policy", policy).Err(); err != nil {
			t.Fatal(err)
		}
	}
	weaken("allkeys-lru")
	if err := watch.Check(t.Context(), b.Write); !errors.Is(err, streams.ErrDurability) {
		t.Fatalf("err = %v", err)
	}
	weaken("noeviction")
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	go func() { ended <- watch.Run(ctx, b.Write) }()
	streamstest.Eventually(t, "a broken promise is asked for every second", func() bool { return watch.Err() == nil })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
