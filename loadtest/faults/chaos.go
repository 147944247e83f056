package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/loadtest/faults/proxy"
	"github.com/paybell/paybell/loadtest/faults/traffic"
	"github.com/paybell/paybell/loadtest/server"
)

// exitConfig is the exit code of a process that its configuration keeps from starting.
const exitConfig = 2

// fault is one thing that goes wrong, and is put right again before it returns. An
// error means that the suite could not do it, not that paybell minded.
type fault struct {
	name string
	do   func(ctx context.Context, c *chaos) error
}

// errNotPossible is a fault's for which there is nothing to do it to here and now.
var errNotPossible = errors.New("not possible")

// chaos does faults one after another, in an order that the seed draws.
type chaos struct {
	st   *stack
	rand *rand.Rand
	// all are the faults of a deck, deck what is left of one.
	all  func() []fault
	deck []fault

	mu sync.Mutex
	// destroyed are the entries that were deleted by hand, by event id.
	destroyed []string
	// admitted are processes of another configuration that were not refused.
	admitted []string
}

// faults are all there are. Each deck holds every one of them once.
func faults() []fault {
	var deck []fault
	for _, m := range []proxy.Mode{proxy.Refuse, proxy.LostReply, proxy.BlackHole, proxy.HalfOpen, proxy.Delay, proxy.Loading} {
		deck = append(deck,
			fault{string(m) + " before the gateways", between("gateway", m)},
			fault{string(m) + " before the workers", between("worker", m)})
	}
	for _, m := range []proxy.Mode{proxy.Refuse, proxy.LostReply, proxy.LostCommit, proxy.BlackHole, proxy.Delay} {
		deck = append(deck, fault{string(m) + " before PostgreSQL", beforeSQL(m)})
	}
	return append(deck,
		// Twice: this is where the journal is at work.
		fault{"black hole before the gateways", between("gateway", proxy.BlackHole)},
		fault{"reset before the gateways", between("gateway", proxy.Refuse)},
		fault{"power lost while the journal is in use", powerLost},
		fault{"redis killed", redisKilled},
		fault{"redis restarted", redisRestarted},
		fault{"postgres killed", postgresKilled},
		fault{"postgres restarted", postgresRestarted},
		fault{"database restored from a backup", databaseRestored},
		fault{"a worker of a second configuration", secondConfiguration},
		fault{"worker frozen beyond its lease", frozen("worker", leaseTTL+time.Second)},
		fault{"gateway frozen", frozen("gateway", time.Second)},
		fault{"redis frozen", serverFrozen("redis")},
		fault{"postgres frozen", serverFrozen("postgres")},
		fault{"an order makes its handler panic", sicken(traffic.Panics)},
		fault{"OOM", settings("maxmemory", "1mb", "0")},
		fault{"READONLY", readOnly},
		fault{"MISCONF", misconf},
		fault{"journal's disk full", diskFull},
		fault{"journal's quota full", quotaFull},
		fault{"journal removed", journalRemoved},
		fault{"group destroyed", groupDestroyed},
		fault{"pending entry deleted", pendingDeleted},
		fault{"a partition's key overwritten", keyOverwritten},
		fault{"a gateway's clock moved", clockMoved("gateway")},
		fault{"a worker's clock moved", clockMoved("worker")},
		fault{"PgBouncer restarted", poolerRestarted},
		fault{"redis's clock moved", redisClockMoved},
	)
}

// slowPoison takes half a minute to die, so that every second round begins with it.
var slowPoison = []fault{
	{"an order makes its handler hang", sicken(traffic.Hangs)},
	{"an order kills its worker", sicken(traffic.Kills)},
}

// begin does what every second round begins with.
func (c *chaos) begin(ctx context.Context) error {
	for _, f := range slowPoison {
		if err := c.do(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// run draws from shuffled decks until the time is over.
func (c *chaos) run(ctx context.Context, until time.Time) error {
	for time.Now().Before(until) {
		if len(c.deck) == 0 {
			if c.deck = c.all(); len(c.deck) == 0 { // the kills are enough
				pause(ctx, time.Until(until))
				return nil
			}
			c.rand.Shuffle(len(c.deck), func(i, j int) { c.deck[i], c.deck[j] = c.deck[j], c.deck[i] })
		}
		f := c.deck[0]
		c.deck = c.deck[1:]
		if err := c.do(ctx, f); err != nil {
			return err
		}
		if !pause(ctx, 200*time.Millisecond+rand2(c.rand, 800*time.Millisecond)) {
			return nil
		}
	}
	return nil
}

// do does one fault and counts it, or that it was not possible.
func (c *chaos) do(ctx context.Context, f fault) error {
	err := f.do(ctx, c)
	switch {
	case err == nil:
		c.st.tally.fault(f.name)
	case errors.Is(err, errNotPossible):
		c.st.tally.notPossible(f.name)
	case ctx.Err() == nil:
		return fmt.Errorf("fault %q: %w", f.name, err)
	}
	return nil
}

func (c *chaos) slotsOf(kind string) []*slot {
	var out []*slot
	for _, s := range c.st.slots {
		if s.kind == kind {
			out = append(out, s)
		}
	}
	// Sometimes all of a kind, sometimes one.
	if i := c.rand.IntN(len(out) + 1); i < len(out) {
		return out[i : i+1]
	}
	return out
}

// between puts a mode between processes of a kind and Redis for a while.
func between(kind string, m proxy.Mode) func(context.Context, *chaos) error {
	return through(kind, m, func(s *slot) *proxy.Proxy { return s.proxy })
}

// beforeSQL puts a mode between workers and PostgreSQL.
func beforeSQL(m proxy.Mode) func(context.Context, *chaos) error {
	return through("worker", m, func(s *slot) *proxy.Proxy { return s.sql })
}

func through(kind string, m proxy.Mode, of func(s *slot) *proxy.Proxy) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		slots := c.slotsOf(kind)
		for _, s := range slots {
			of(s).Set(m)
		}
		pause(ctx, 600*time.Millisecond+rand2(c.rand, 900*time.Millisecond))
		for _, s := range slots {
			of(s).Set(proxy.Pass)
		}
		return nil
	}
}

// sicken makes the next order one that the group points can do nothing with.
func sicken(kind traffic.Poison) func(context.Context, *chaos) error {
	return func(_ context.Context, c *chaos) error {
		c.st.sender.Sicken(kind)
		return nil
	}
}

// powerLost ends the gateways while they have nothing but their journals.
func powerLost(ctx context.Context, c *chaos) error {
	slots := c.slotsOf("gateway")
	for _, s := range slots {
		s.proxy.Set(proxy.Refuse)
	}
	pause(ctx, 500*time.Millisecond+rand2(c.rand, 500*time.Millisecond))
	cut := 0
	for _, s := range slots {
		if s.cutPower() {
			cut++
		}
	}
	pause(ctx, 300*time.Millisecond)
	for _, s := range slots {
		s.proxy.Set(proxy.Pass)
	}
	if cut == 0 { // they were dead already
		return errNotPossible
	}
	return nil
}

func frozen(kind string, d time.Duration) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		slots := c.slotsOf(kind)
		if !slots[0].freeze(ctx, d) {
			return errNotPossible
		}
		return nil
	}
}

// serverFrozen stops a server for some seconds.
func serverFrozen(kind string) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		p, postgres := c.st.servers()
		if kind == "postgres" {
			p = postgres
		}
		p.Freeze()
		pause(ctx, 2*time.Second+rand2(c.rand, 2*time.Second))
		p.Thaw()
		return nil
	}
}

// gone ends a server the hard or the soft way.
func (c *chaos) gone(ctx context.Context, p *server.Process, kind string, hard bool) {
	c.st.sample()
	if hard {
		for wait := 0; wait < 1000 && c.st.inFlight() == 0; wait++ {
			pause(ctx, time.Millisecond)
		}
		inFlight := c.st.inFlight() > 0
		p.Kill()
		c.st.tally.killed(kind, atRandom, inFlight)
		return
	}
	// Redis ends on SIGTERM; PostgreSQL's fast shutdown is SIGINT.
	if kind == "postgres" {
		p.Signal(syscall.SIGINT)
	}
	p.Stop()
}

func redisKilled(ctx context.Context, c *chaos) error {
	return c.redisAway(ctx, true, rand2(c.rand, time.Second))
}

func redisRestarted(ctx context.Context, c *chaos) error {
	return c.redisAway(ctx, false, rand2(c.rand, time.Second))
}

func (c *chaos) redisAway(ctx context.Context, hard bool, d time.Duration) error {
	p, _ := c.st.servers()
	c.gone(ctx, p, "redis", hard)
	pause(ctx, d)
	return c.st.startRedis(context.WithoutCancel(ctx))
}

func postgresKilled(ctx context.Context, c *chaos) error {
	return c.postgresAway(ctx, true, rand2(c.rand, time.Second))
}

func postgresRestarted(ctx context.Context, c *chaos) error {
	return c.postgresAway(ctx, false, rand2(c.rand, time.Second))
}

func (c *chaos) postgresAway(ctx context.Context, hard bool, d time.Duration) error {
	_, p := c.st.servers()
	c.gone(ctx, p, "postgres", hard)
	pause(ctx, d)
	return c.st.startPostgres(context.WithoutCancel(ctx))
}

// poolerRestarted ends every connection through PgBouncer, and for a while there are none.
func poolerRestarted(ctx context.Context, c *chaos) error {
	c.st.pooler.Kill()
	pause(ctx, rand2(c.rand, time.Second))
	return c.st.startPooler(context.WithoutCancel(ctx))
}

// databaseRestored takes a backup, and puts it back when more has been settled.
func databaseRestored(ctx context.Context, c *chaos) error {
	// What is parked and not in its stream any more is not promised again: a fault before
	// this one filled the server, and nothing was kept.
	for try := 0; ; try++ {
		alone, err := c.parkedAlone(ctx)
		if err != nil {
			return err
		}
		if !alone {
			break
		}
		if try == 20 {
			return errNotPossible
		}
		pause(ctx, 500*time.Millisecond)
	}
	backup := filepath.Join(c.st.dir, "backup.sql")
	dsn := server.DSN(c.st.sqlPort)
	if err := c.tool(ctx, "pg_dump", "--clean", "--if-exists", "--file", backup, dsn); err != nil {
		return err
	}
	pause(ctx, time.Second+rand2(c.rand, time.Second))
	// Every transaction of effects begins with its fence: who holds none waits there, and is
	// in nobody's way.
	for try := 0; ; try++ {
		err := c.tool(ctx, "psql", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1",
			"--command", "LOCK TABLE effect_fences", "--file", backup, dsn)
		if err == nil || try == 20 || !pause(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// secondConfiguration starts a worker that would read other partitions, or would have an
// account sell under another name.
func secondConfiguration(ctx context.Context, c *chaos) error {
	wrong := []string{"streams.partitions=32", "accounts.standard.namespace=second"}[c.rand.IntN(2)]
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	workers := c.slotsOf("worker")
	cmd := c.st.command(ctx, workers[0], "worker", "--set", "instance=second", "--set", "admin.address=127.0.0.1:0", "--set", wrong)
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == exitConfig {
		return nil
	}
	c.mu.Lock()
	c.admitted = append(c.admitted, fmt.Sprintf("%s: %v", wrong, err))
	c.mu.Unlock()
	return nil
}

// parkedAlone reports whether a delivery is parked whose entry was trimmed.
func (c *chaos) parkedAlone(ctx context.Context) (bool, error) {
	keys, err := c.st.direct.Keys(ctx, "*:parked:*").Result()
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		head, _, _ := strings.Cut(key, "parked:")
		ids, err := c.st.direct.ZRange(ctx, key, 0, -1).Result()
		if err != nil {
			return false, err
		}
		for _, id := range ids {
			if found, err := c.st.direct.XRange(ctx, head+"events", id, id).Result(); err != nil || len(found) == 0 {
				return true, err
			}
		}
	}
	return false, nil
}

// tool runs a program of PostgreSQL's.
func (c *chaos) tool(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the suite names it
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, said.String())
	}
	return nil
}

// settings changes a server setting for a while.
func settings(name, value, back string) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		if err := c.st.direct.ConfigSet(ctx, name, value).Err(); err != nil {
			return err
		}
		pause(ctx, time.Second)
		return c.st.direct.ConfigSet(context.WithoutCancel(ctx), name, back).Err()
	}
}

// readOnly makes the server the replica of one that is not there: it keeps its data
// and answers READONLY.
func readOnly(ctx context.Context, c *chaos) error {
	if err := c.st.direct.Do(ctx, "REPLICAOF", "127.0.0.1", "1").Err(); err != nil {
		return err
	}
	pause(ctx, time.Second)
	return c.st.direct.Do(context.WithoutCancel(ctx), "REPLICAOF", "NO", "ONE").Err()
}

// misconf makes a snapshot fail, after which the server takes no writes: the
// snapshot's name is a directory's.
func misconf(ctx context.Context, c *chaos) error {
	const taken = "taken"
	if err := os.MkdirAll(filepath.Join(c.st.dir, "redis", taken, "x"), 0o700); err != nil {
		return err
	}
	r := c.st.direct
	// Writes are refused only where snapshots are configured.
	if err := errors.Join(r.ConfigSet(ctx, "dbfilename", taken).Err(), r.ConfigSet(ctx, "save", "3600 1000000").Err(), r.BgSave(ctx).Err()); err != nil {
		return err
	}
	pause(ctx, 1200*time.Millisecond)
	ctx = context.WithoutCancel(ctx)
	return errors.Join(r.ConfigSet(ctx, "save", "").Err(), r.ConfigSet(ctx, "dbfilename", "dump.rdb").Err())
}

// diskFull fills the disk under the first gateway's journal while that gateway has
// nothing but its journal.
func diskFull(ctx context.Context, c *chaos) error {
	if c.st.mounted == "" { // not everybody may mount one
		return errNotPossible
	}
	filler := filepath.Join(c.st.mounted, "filler")
	var free syscall.Statfs_t
	if err := syscall.Statfs(c.st.mounted, &free); err != nil {
		return err
	}
	left := int64(free.Bavail)*free.Bsize - 32<<10 //nolint:gosec // a small disk
	if left > 0 {
		if err := os.WriteFile(filler, make([]byte, left), 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
			return err
		}
	}
	s := c.st.slots[0]
	s.proxy.Set(proxy.BlackHole)
	pause(ctx, 1500*time.Millisecond)
	s.proxy.Set(proxy.Pass)
	return os.RemoveAll(filler)
}

// journalRemoved removes the second gateway's journal while it is empty, keeps Redis from
// that gateway, and ends it: what it confirms meanwhile is in no file any more.
func journalRemoved(ctx context.Context, c *chaos) error {
	s := c.st.slots[1]
	for range 3 {
		if n, err := s.metric(ctx, "paybell_journal_events"); err != nil || n > 0 {
			return errNotPossible // it was killed, or what it holds would be lost by right
		}
		pause(ctx, 200*time.Millisecond)
	}
	if err := os.RemoveAll(filepath.Join(s.dir(), "journal")); err != nil {
		return err
	}
	s.proxy.Set(proxy.Refuse)
	pause(ctx, time.Second)
	cut := s.cutPower()
	pause(ctx, 300*time.Millisecond)
	s.proxy.Set(proxy.Pass)
	if !cut { // it was dead already
		return errNotPossible
	}
	return nil
}

// quotaFull keeps Redis from the second gateway until its journal has used up its quota
// and callbacks are refused.
func quotaFull(ctx context.Context, c *chaos) error {
	const enough, most = 50, 20 * time.Second
	s := c.st.slots[1]
	s.proxy.Set(proxy.Refuse)
	defer s.proxy.Set(proxy.Pass)
	refused, last, known := 0, 0, false
	for began := time.Now(); refused < enough && time.Since(began) < most && pause(ctx, 200*time.Millisecond); {
		now, err := s.metric(ctx, "paybell_journal_refused_callbacks_total")
		if err != nil || int(now) < last { // it was killed, and begins anew
			last, known = 0, true
		}
		if err != nil {
			continue
		}
		if known {
			refused += int(now) - last
		}
		last, known = int(now), true
	}
	if refused == 0 {
		return errNotPossible
	}
	c.st.tally.journalFull(refused)
	return nil
}

// streamKeys are the events streams of this run's prefix.
func (c *chaos) streamKeys(ctx context.Context) ([]string, error) {
	keys, err := c.st.direct.Keys(ctx, "*:events").Result()
	if err == nil && len(keys) == 0 {
		err = errors.New("there is no events stream")
	}
	return keys, err
}

var builtin = []string{"orderstatus", "points", "eventlog"}

// groupDestroyed destroys one of paybell's groups in one partition: every entry that
// the stream still has is delivered to it again.
func groupDestroyed(ctx context.Context, c *chaos) error {
	keys, err := c.streamKeys(ctx)
	if err != nil {
		return err
	}
	n, err := c.st.direct.XGroupDestroy(ctx, keys[c.rand.IntN(len(keys))], builtin[c.rand.IntN(len(builtin))]).Result()
	if err == nil && n == 0 { // it was not there
		err = errNotPossible
	}
	return err
}

// pendingDeleted deletes an entry that is pending for some group: its event may be
// lost to all that have not read it, and the ledger has to say so.
func pendingDeleted(ctx context.Context, c *chaos) error {
	keys, err := c.streamKeys(ctx)
	if err != nil {
		return err
	}
	for range 50 {
		key, group := keys[c.rand.IntN(len(keys))], builtin[c.rand.IntN(len(builtin))]
		pending, err := c.st.direct.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: key, Group: group, Start: "-", End: "+", Count: 1}).Result()
		if err != nil && !redis.HasErrorPrefix(err, "NOGROUP") {
			return err
		}
		if len(pending) == 0 {
			continue
		}
		entries, err := c.st.direct.XRange(ctx, key, pending[0].ID, pending[0].ID).Result()
		if err != nil || len(entries) == 0 {
			continue
		}
		id, _ := entries[0].Values["id"].(string)
		c.mu.Lock()
		c.destroyed = append(c.destroyed, id)
		c.mu.Unlock()
		return c.st.direct.XDel(ctx, key, pending[0].ID).Err()
	}
	return errNotPossible // nothing was pending
}

// keyOverwritten writes over a key that every append of a partition needs, and puts it
// back: that partition's callbacks have to wait, and no other's.
func keyOverwritten(ctx context.Context, c *chaos) error {
	keys, err := c.st.direct.Keys(ctx, "*:ledger").Result()
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return errNotPossible
	}
	key := keys[c.rand.IntN(len(keys))]
	if _, err := c.st.direct.TxPipelined(context.WithoutCancel(ctx), func(tx redis.Pipeliner) error {
		tx.Rename(ctx, key, key+":aside")
		tx.Set(ctx, key, "overwritten", 0)
		return nil
	}); err != nil {
		return err
	}
	pause(ctx, 2*time.Second)
	return c.st.direct.Rename(context.WithoutCancel(ctx), key+":aside", key).Err()
}

// clockMoved sets a process's clock wrong for a while, by less than providers'
// tolerance.
func clockMoved(kind string) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		s := c.slotsOf(kind)[0]
		by := strconv.Itoa(c.rand.IntN(240)-120) + "s"
		if err := os.WriteFile(s.clock(), []byte(by), 0o600); err != nil {
			return err
		}
		pause(ctx, 2*time.Second)
		return os.WriteFile(s.clock(), []byte("0s"), 0o600)
	}
}

// redisClockMoved sets the clock of Redis forward beyond every lease, or back, for a
// while: all leases end while their owners believe in them, or outlive owners that were
// killed; marks and retries are from the future.
func redisClockMoved(ctx context.Context, c *chaos) error {
	by := leaseTTL + time.Second + rand2(c.rand, leaseTTL)
	if c.rand.IntN(2) == 0 {
		by = -by
	}
	if err := c.st.clock.Set(by); err != nil {
		return err
	}
	pause(ctx, time.Second+rand2(c.rand, time.Second))
	return c.st.clock.Set(0)
}
