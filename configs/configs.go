// Package configs is the configuration of the paybell command: a tree made of
// every package's own Options, loaded from a file, the environment and flags, in
// that order, and checked as a whole. It decides nothing: what a value means is
// documented where the Options are declared.
package configs

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/gateway/provider/catalog"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/eventlog"
	"github.com/paybell/paybell/handlers/points"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/workers"
)

// Config is the whole configuration.
type Config struct {
	// DataDir holds what the embedded default keeps: sandbox keys and the SQLite file.
	DataDir string `yaml:"data_dir"`
	// MemoryLimit is how many bytes of memory the process may use. 0 is what its container
	// or GOMEMLIMIT allows, or all that the machine has where neither says anything; where
	// several say something the least counts. Every bound that is not given is a share of it.
	MemoryLimit int64 `yaml:"memory_limit"`
	// Log is how the process logs, to standard error.
	Log Log `yaml:"log"`
	// Gateway is the public door.
	Gateway gateway.Options `yaml:"gateway"`
	// Journal keeps callbacks on the gateway's own disk while Redis cannot take them,
	// and always where the embedded engine stands in for Redis.
	Journal gateway.JournalOptions `yaml:"journal"`
	// Admin is the operator's door.
	Admin admin.Options `yaml:"admin"`
	// Streams is where events are kept. Without streams.redis.address the process
	// runs an embedded engine, which its journal fills again at a restart: for trying
	// out and for tests.
	Streams streams.Options `yaml:"streams"`
	// Embedded is the engine that stands in for Redis when none is configured.
	Embedded Embedded `yaml:"embedded"`
	// Database is where the built-in groups keep their effects. With the embedded
	// engine the default is the SQLite file paybell.db in data_dir; with a Redis server
	// a process that runs groups wants one to be named.
	Database effects.Options `yaml:"database"`
	// Instance names this process among its group's consumers; keep it the same over
	// restarts. The default is the host's name.
	Instance string `yaml:"instance"`
	// Groups are the built-in consumer groups.
	Groups Groups `yaml:"groups"`
	// Accounts are the configured instances of providers, by name. Without any, the
	// embedded default makes a sandbox account for every provider.
	Accounts map[string]Account `yaml:"accounts"`
}

// Log is how the process logs.
type Log struct {
	// Level is debug, info, warn or error.
	Level slog.Level `yaml:"level"`
	// Format is text or json.
	Format string `yaml:"format" validate:"oneof=text json"`
}

// Embedded configures the engine inside the process.
type Embedded struct {
	// Address is a loopback host:port where redis-cli and subscribers find it.
	Address string `yaml:"address"`
}

// Groups are the built-in consumer groups.
type Groups struct {
	// PrefetchBytes is about how many bytes of entries a worker process holds at once: what
	// it has read for all groups and partitions together, and what is on its way from
	// Redis. 0 is a fifth of the memory that the process may use, at most 256 MiB.
	PrefetchBytes int64 `yaml:"prefetch_bytes"`
	// OrderStatus folds events into orders.
	OrderStatus Group `yaml:"orderstatus"`
	// Points keeps the points ledger.
	Points PointsGroup `yaml:"points"`
	// EventLog keeps the evidence of every accepted event.
	EventLog EventLogGroup `yaml:"eventlog"`
}

// Group is what every built-in group has.
type Group struct {
	// Enabled runs the group in worker processes.
	Enabled bool `yaml:"enabled"`
	// Worker is how the group's deliveries are run.
	Worker workers.Options `yaml:"worker"`
}

// PointsGroup configures the points group.
type PointsGroup struct {
	// Enabled runs the group in worker processes.
	Enabled bool `yaml:"enabled"`
	// Worker is how the group's deliveries are run.
	Worker workers.Options `yaml:"worker"`
	// Award is what an order is worth.
	Award points.Options `yaml:"award"`
}

// EventLogGroup configures the event log group.
type EventLogGroup struct {
	// Enabled runs the group in worker processes.
	Enabled bool `yaml:"enabled"`
	// Worker is how the group's deliveries are run.
	Worker workers.Options `yaml:"worker"`
	// Keep is how long evidence is kept.
	Keep eventlog.Options `yaml:"keep"`
}

// Account is one configured instance of a provider.
type Account struct {
	// Provider is the protocol: one of the names that "paybell config reference" lists.
	Provider string `yaml:"provider"`
	// Namespace is shared by the accounts that sell the same orders; the default is
	// the account's own name.
	Namespace string `yaml:"namespace"`
	// DedupWindow is how long a redelivery is recognised; the default is the span over
	// which the provider resends and a quarter more, at least 7 days.
	DedupWindow time.Duration `yaml:"dedup_window"`
	// Options are the provider's own.
	Options catalog.Options `yaml:"options"`
}

// minDedupWindow is the shortest default window (docs/configuration.md).
const minDedupWindow = 7 * 24 * time.Hour

// Default is the configuration of an empty file.
func Default() Config {
	s := streams.DefaultOptions()
	s.Redis.Address = ""
	group := Group{Enabled: true, Worker: workers.DefaultOptions()}
	return Config{
		DataDir:  "paybell-data",
		Log:      Log{Level: slog.LevelInfo, Format: "text"},
		Gateway:  gateway.DefaultOptions(),
		Journal:  gateway.DefaultJournalOptions(),
		Admin:    admin.DefaultOptions(),
		Streams:  s,
		Embedded: Embedded{Address: "127.0.0.1:16379"},
		Database: effects.DefaultOptions(),
		Groups: Groups{
			OrderStatus: group,
			Points:      PointsGroup{Enabled: true, Worker: group.Worker, Award: points.DefaultOptions()},
			EventLog:    EventLogGroup{Enabled: true, Worker: group.Worker, Keep: eventlog.DefaultOptions()},
		},
	}
}

// EmbeddedRedis reports whether the process runs its own engine.
func (c *Config) EmbeddedRedis() bool { return c.Streams.Redis.Address == "" }

// DatabaseNamed reports whether it is said where effects are kept.
func (c *Config) DatabaseNamed() bool {
	return c.Database.SQLite != "" || !c.Database.Postgres.IsZero()
}

// any reports whether some group is enabled.
func (g *Groups) any() bool { return g.OrderStatus.Enabled || g.Points.Enabled || g.EventLog.Enabled }

// SandboxDir is where the keys of generated sandbox accounts are.
func (c *Config) SandboxDir() string { return filepath.Join(c.DataDir, "sandbox") }
