package streams_test

import (
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/streams"
)

func TestDefaultOptionsAreValid(t *testing.T) {
	if err := streams.DefaultOptions().Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestEveryProblemIsToldWithItsPath(t *testing.T) {
	o := streams.DefaultOptions()
	o.Redis.Address = "redis"
	o.Redis.Username = "paybell"
	o.Redis.DB = -1
	o.Redis.TLS.CertFile = "client.pem"
	o.Redis.DialTimeout, o.Redis.ReadTimeout, o.Redis.WriteTimeout = 0, 0, 0
	o.Redis.Connections = 0
	o.Durability, o.Accept = "", []string{"nothing"}
	o.Prefix = "{"
	o.Partitions = -1
	o.LeaseTTL = time.Millisecond
	o.Block = 0
	o.ConsumerIdle = 0
	o.TakeBytes = 1
	o.DeclaredGroups = []string{"shipping", "a b"}
	o.TrimEvery = 0
	o.Retention = streams.RetentionOptions{}
	o.Writer = streams.WriterOptions{Connections: -1}
	got := strings.Split(o.Validate().Error(), "\n")
	want := []string{
		"redis.address:", "redis.password:", "redis.db:", "redis.tls.enabled:", "redis.tls.key_file:",
		"redis.dial_timeout:", "redis.read_timeout:", "redis.write_timeout:", "redis.connections:",
		"durability:", "accept[0]:", "prefix:", "partitions:", "lease_ttl:", "block:", "consumer_idle:",
		"declared_groups[1]:", "trim_every:", "retention.bytes:", "retention.age:", "take_bytes:",
		"writer.connections:", "writer.max_batch:", "writer.max_batch_bytes:", "writer.queue:", "writer.queue_bytes:",
	}
	if len(got) != len(want) {
		t.Fatalf("%d problems, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("problem %d is %q, want one of %s", i, got[i], want[i])
		}
	}
}

func TestOptionsThatContradictEachOther(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*streams.Options)
		want   string
	}{
		"more lanes than connections": {func(o *streams.Options) { o.Writer.Connections, o.Redis.Connections = 9, 8 }, "writer.connections: "},
		"a password from two places": {func(o *streams.Options) {
			o.Redis.Password = secret.Source{File: "a", Env: "B"}
		}, "redis.password: "},
		"a port without a host": {func(o *streams.Options) { o.Redis.Address = ":6379" }, "redis.address: "},
		"a socket's path":       {func(o *streams.Options) { o.Redis.Address = "unix:///run/redis.sock" }, "redis.address: "},
	} {
		o := streams.DefaultOptions()
		c.change(&o)
		if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
