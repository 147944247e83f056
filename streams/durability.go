package streams

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// What a success reply can stand for.
const (
	// DurabilityRedis: appended to a server that restores its data after a restart.
	DurabilityRedis = "redis"
	// DurabilityFsync: synced to that server's disk.
	DurabilityFsync = "fsync"
)

// What a configuration can say that the server may lack.
const (
	AcceptNoAOF         = "no-aof"
	AcceptEviction      = "eviction"
	AcceptAppendfsyncNo = "appendfsync-no"
	AcceptUnverified    = "unverified"
)

var accepts = []string{AcceptNoAOF, AcceptEviction, AcceptAppendfsyncNo, AcceptUnverified}

func (o Options) checkDurability() error {
	var errs []error
	if o.Durability != DurabilityRedis && o.Durability != DurabilityFsync {
		errs = append(errs, fmt.Errorf("durability: must be %s or %s", DurabilityRedis, DurabilityFsync))
	}
	for i, name := range o.Accept {
		if !slices.Contains(accepts, name) {
			errs = append(errs, fmt.Errorf("accept[%d]: must be one of %s", i, strings.Join(accepts, ", ")))
		}
	}
	if o.Durability == DurabilityFsync && slices.Contains(o.Accept, AcceptNoAOF) {
		errs = append(errs, fmt.Errorf("accept: %s contradicts durability %s", AcceptNoAOF, DurabilityFsync))
	}
	return errors.Join(errs...)
}

// BreachError is what a server lacks of the durability that is promised. It is an ErrDurability.
type BreachError struct {
	promised string
	// Lacks says it in words that name settings of the server, and nothing else of it.
	Lacks string
}

// Error implements error.
func (b *BreachError) Error() string {
	return fmt.Sprintf("%v: durability %s is promised, and the server does not keep it: %s", ErrDurability, b.promised, b.Lacks)
}

// Unwrap makes it an ErrDurability.
func (b *BreachError) Unwrap() error { return ErrDurability }

// Breach is an ErrDurability that says what a server lacks of the durability that
// the options promise, in words; nil where it keeps it. The embedded engine is
// exempt: what it forgets, the process knows how to keep.
func (d Durability) Breach(o Options) error {
	if d.Embedded {
		return nil
	}
	if foreign := d.foreign(); foreign != "" {
		return fmt.Errorf("%w: the server %s", ErrDurability, foreign)
	}
	var lacks []string
	lack := func(accept, text string) {
		if accept == "" || !slices.Contains(o.Accept, accept) {
			if accept != "" {
				text += " (or accept " + accept + ")"
			}
			lacks = append(lacks, text)
		}
	}
	if d.MaxmemoryPolicy != "noeviction" {
		lack(AcceptEviction, "it may evict unread events: set maxmemory-policy noeviction")
	}
	if d.AOF && !d.AOFWriteOK {
		lack("", "its last write of the append-only file failed: look at its disk and log")
	}
	switch {
	case !d.AOF && o.Durability == DurabilityFsync:
		lack("", "it has no append-only file: set appendonly yes")
	case !d.AOF:
		lack(AcceptNoAOF, "a restart of it forgets: set appendonly yes")
	case o.Durability == DurabilityFsync && d.Appendfsync == "":
		lack(AcceptUnverified, "it does not let us ask for appendfsync: allow CONFIG GET")
	case o.Durability == DurabilityFsync && d.Appendfsync != "always":
		lack("", "appendfsync is "+d.Appendfsync+": set it to always")
	case o.Durability == DurabilityFsync && !d.RewriteFsync:
		lack("", "it does not sync while it rewrites its file: set no-appendfsync-on-rewrite no")
	case d.Appendfsync == "no":
		lack(AcceptAppendfsyncNo, "the operating system decides when it writes: set appendfsync everysec")
	}
	if len(lacks) == 0 {
		return nil
	}
	return &BreachError{promised: o.Durability, Lacks: strings.Join(lacks, "; ")}
}

// watchEvery is how often a Watch asks the server; watchBroken, while it does not
// keep the promise or has not answered yet.
const (
	watchEvery  = time.Minute
	watchBroken = time.Second
)

var errNotAsked = fmt.Errorf("%w: the server could not be asked yet", ErrDurability)

// Watch asks a server at start, with every new connection, and every minute, whether it
// keeps what the options promise.
type Watch struct {
	o   Options
	log *slog.Logger
	// answer is the last one; nil before the first, and while a server that was met
	// again has not answered.
	answer atomic.Pointer[error]
	// problems are those of the last answer, as they were logged.
	problems atomic.Pointer[string]
	wake     chan struct{} // the server was met again and is to be asked every second
	m        watchMetrics
}

// NewWatch returns a watch that has not asked yet.
func NewWatch(o Options, log *slog.Logger, reg prometheus.Registerer) *Watch {
	return &Watch{o: o, log: log, wake: make(chan struct{}, 1), m: newWatchMetrics(reg, o.Durability)}
}

// Look is for NewWriteClient. A server that was restarted, or another one in its place,
// may keep less than the one before: it is asked before anything is sent to it. While it
// does not answer, because it loads its data, it is trusted with nothing. The append that
// opened the connection has passed the guard already, so Look fails it; whatever else
// did, settling for instance, goes on.
func (w *Watch) Look(ctx context.Context, c *redis.Conn) error {
	err := w.Check(ctx, c)
	if err != nil && !errors.Is(err, ErrDurability) {
		w.answer.Store(nil)
	}
	if err != nil {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	if ctx.Value(appending{}) == nil {
		return nil
	}
	return err
}

// Check asks once. It returns an ErrDurability when the server does not keep the
// promise, and ErrUnavailable, which changes nothing, when it cannot be asked.
func (w *Watch) Check(ctx context.Context, rdb Asked) error {
	d, err := Check(ctx, rdb)
	if err != nil {
		return err
	}
	breach := d.Breach(w.o)
	before := w.answer.Swap(&breach)
	broken := before != nil && *before != nil
	w.m.set(d, breach)
	problems := strings.Join(d.Problems, "; ")
	if told := w.problems.Swap(&problems); problems != "" && !d.Embedded && breach == nil && (told == nil || *told != problems) {
		w.log.Warn("redis may lose what it confirms", "problems", problems)
	}
	switch {
	case breach != nil && !broken:
		w.log.Error("redis does not keep what is promised", "err", breach)
	case breach == nil && broken:
		w.log.Info("redis keeps again what is promised", "durability", w.o.Durability)
	}
	return breach
}

// Err is what the last answer of the server came to. Before the first, nothing that
// depends on it is promised: an ErrDurability.
func (w *Watch) Err() error {
	if err := w.answer.Load(); err != nil {
		return *err
	}
	return errNotAsked
}

// Run asks every minute until ctx ends, and every second while the promise is not
// kept. Asking may fail: what becomes of appends
// then is not for the watch to say.
func (w *Watch) Run(ctx context.Context, rdb Asked) error {
	tick := time.NewTicker(watchBroken)
	defer tick.Stop()
	for {
		if w.Err() == nil {
			tick.Reset(watchEvery)
		} else {
			tick.Reset(watchBroken)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		case <-tick.C:
		}
		if err := w.Check(ctx, rdb); err != nil && !errors.Is(err, ErrDurability) && ctx.Err() == nil {
			w.log.Warn("redis could not be asked how it keeps what it confirms", "err", err)
		}
	}
}

type watchMetrics struct {
	kept                                   prometheus.Gauge
	aof, aofWrite, noeviction, fsync, save prometheus.Gauge
	delayed, pending                       prometheus.Gauge
}

func newWatchMetrics(reg prometheus.Registerer, promised string) watchMetrics {
	server := register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "paybell_streams_redis_setting",
		Help: "1 where the server does what the setting names, at the last look.",
	}, []string{"setting"}))
	return watchMetrics{
		kept: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_streams_durability_kept",
			Help: "1 while the server keeps the promised durability, 0 while it does not.",
		}, []string{"promised"})).WithLabelValues(promised),
		aof: server.WithLabelValues("aof"), aofWrite: server.WithLabelValues("aof_write_ok"),
		noeviction: server.WithLabelValues("noeviction"), fsync: server.WithLabelValues("fsync"),
		save: server.WithLabelValues("bgsave_ok"),
		delayed: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paybell_streams_redis_aof_delayed_fsync",
			Help: "Writes that waited for a slow sync of the append-only file since the server's start, at the last look.",
		})),
		pending: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paybell_streams_redis_aof_pending_bio_fsync",
			Help: "Syncs of the append-only file that the server had queued, at the last look.",
		})),
	}
}

func (m watchMetrics) set(d Durability, breach error) {
	m.delayed.Set(float64(d.DelayedFsync))
	m.pending.Set(float64(d.PendingFsync))
	for gauge, is := range map[prometheus.Gauge]bool{
		m.kept: breach == nil, m.aof: d.AOF, m.aofWrite: d.AOFWriteOK, m.noeviction: d.MaxmemoryPolicy == "noeviction",
		m.fsync: d.Level() == DurabilityFsync, m.save: d.BgsaveOK,
	} {
		v := 0.0
		if is {
			v = 1
		}
		gauge.Set(v)
	}
}
