package main_test

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams/streamstest"
)

// refused runs a command that must end at once with exit code 2 and these words.
func (s *stack) refused(words string, args ...string) {
	s.t.Helper()
	cmd := s.command(append(args, "--set", "admin.address="+freeAddress(s.t))...)
	ended := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() }) // it may have ended
	defer ended.Stop()
	out, err := cmd.CombinedOutput()
	exit, _ := errors.AsType[*exec.ExitError](err)
	if exit == nil || exit.ExitCode() != 2 || !strings.Contains(string(out), words) {
		s.t.Errorf("%v: %v, want exit code 2 and %q in:\n%s", args, err, words, out)
	}
}

// TestAnotherNumberOfPartitionsIsRefused: with 32 partitions beside 16, a gateway would
// append where no worker reads, and a worker would leave what was appended before.
func TestAnotherNumberOfPartitionsIsRefused(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("everysec")...)
	s := newStack(t, server.Addr(), effectstest.Postgres(t).Postgres.File)
	s.run("migrate")
	gateway := s.start("gateway", s.gatewayURL)
	if !s.post(t.Context(), 1) {
		t.Fatal("not accepted")
	}
	gateway.kill()
	for _, role := range []string{"gateway", "worker", "serve"} {
		s.refused("set streams.partitions to 16", role, "--set", "streams.partitions=32")
	}
	s.start("gateway", s.gatewayURL)
}

// TestSecondDatabaseIsRefused: a worker with another database would take a part of the
// orders there, and nobody would miss them in the streams.
func TestSecondDatabaseIsRefused(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("everysec")...)
	first, second := effectstest.Postgres(t).Postgres.File, effectstest.Postgres(t).Postgres.File
	s := newStack(t, server.Addr(), first)
	other := "database.postgres.file=" + second
	if out, err := s.command("deployment", "show").CombinedOutput(); err == nil || !strings.Contains(string(out), "not migrated") {
		t.Errorf("deployment show of a database that is not migrated: %v\n%s", err, out)
	}
	s.run("migrate")
	s.run("migrate", "--set", other)
	worker := s.startAt("worker", freeAddress(t))
	show := func(flags ...string) string {
		out, err := s.command(append([]string{"deployment", "show"}, flags...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("deployment show: %v\n%s", err, out)
		}
		return string(out)
	}
	waitUntil(t, 20*time.Second, "the worker has claimed its database", func() bool {
		return strings.Contains(show(), "\neach names the other")
	})
	s.refused("another database", "worker", "--set", other)
	if got := show("--set", other); !strings.Contains(got, "do not name each other") {
		t.Errorf("deployment show of the second:\n%s", got)
	}
	worker.kill()
	s.run("deployment", "move", "--yes", "--set", other)
	s.refused("another database", "worker")
	s.startAt("worker", freeAddress(t), "--set", other)
}

// TestJournalOfAnotherDeploymentIsNotEmptied: callbacks that a gateway kept for one Redis
// do not go into another one, at its start or when that comes back.
func TestJournalOfAnotherDeploymentIsNotEmptied(t *testing.T) {
	ours, theirs := streamstest.Redis(t, streamstest.AOF("always")...), streamstest.Redis(t, streamstest.AOF("always")...)
	s := newStack(t, ours.Addr(), "unused")
	stranger := newStack(t, theirs.Addr(), "unused")
	stranger.start("gateway", stranger.gatewayURL).kill()
	gateway := s.start("gateway", s.gatewayURL)
	ours.Kill()
	if !s.post(t.Context(), 1) {
		t.Fatal("not accepted by the journal")
	}
	gateway.kill()

	s.refused("the journal holds callbacks", "gateway", "--set", "streams.redis.address="+theirs.Addr())
	s.refused("of two deployments", "journal", "drain", "--set", "streams.redis.address="+theirs.Addr())
	theirs.Kill()
	late := s.startAt("gateway", freeAddress(t), "--set", "streams.redis.address="+theirs.Addr())
	waitUntil(t, 20*time.Second, "callbacks are taken", func() bool { return s.post(t.Context(), 2) })
	theirs.Restart()
	rdb := redis.NewClient(&redis.Options{Addr: theirs.Addr()})
	defer rdb.Close()
	for range 30 { // three seconds, in which a journal of its own would be empty
		if keys := rdb.Keys(t.Context(), "*:events").Val(); len(keys) > 0 {
			t.Fatalf("callbacks of the first deployment are in the second's redis: %v", keys)
		}
		pause(t.Context())
	}
	late.kill()
	ours.Restart()
	s.run("journal", "drain")
	var status struct {
		Events int `json:"events"`
	}
	out, err := s.command("journal", "status", "-o", "json", "--dir", filepath.Join(filepath.Dir(s.config), "journal")).Output()
	if err == nil {
		err = json.Unmarshal(out, &status)
	}
	if err != nil || status.Events != 0 {
		t.Errorf("journal status: %v\n%s", err, out)
	}
}

// TestRedisThatWasEmptiedIsToldByWhoRuns: connections that stand do not ask for the record,
// and whoever starts meanwhile must not make another one, or name another database.
func TestRedisThatWasEmptiedIsToldByWhoRuns(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("everysec")...)
	first, second := effectstest.Postgres(t).Postgres.File, effectstest.Postgres(t).Postgres.File
	s := newStack(t, server.Addr(), first)
	other := "database.postgres.file=" + second
	s.run("migrate")
	s.run("migrate", "--set", other)
	s.startAt("worker", freeAddress(t))
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	record := func() map[string]string { return rdb.HGetAll(t.Context(), "paybell:deployment").Val() }
	waitUntil(t, 20*time.Second, "the worker has claimed its database", func() bool { return record()["database"] != "" })
	before := record()
	if err := rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, 20*time.Second, "the record is there again", func() bool { return record()["database"] != "" })
	if got := record(); got["id"] != before["id"] || got["database"] != before["database"] || got["partitions"] != before["partitions"] {
		t.Errorf("the record says %v, and said %v", got, before)
	}
	if n := rdb.HLen(t.Context(), "paybell:accounts").Val(); n == 0 {
		t.Error("no account is known")
	}
	s.refused("another database", "worker", "--set", other)
}
