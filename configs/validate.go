package configs

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/go-playground/validator/v10"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/provider/catalog"
	"github.com/paybell/paybell/streams"
)

// nameForm keeps names usable in URLs, metric labels, file names and ordering keys.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// leastMemory is what a process needs that does nothing yet, and some callbacks.
const leastMemory = 64 << 20

// leastPrefetch is room for some callbacks of the largest size.
const leastPrefetch = 4 << 20

// complete fills what depends on other values.
func (c *Config) complete() {
	if c.Instance == "" {
		c.Instance = hostname()
	}
	// A file of its own beside a shared Redis would split the effects over as many files
	// as there are workers, so there it has to be asked for.
	if !c.DatabaseNamed() && (c.EmbeddedRedis() || !c.Groups.any()) {
		c.Database.SQLite = filepath.Join(c.DataDir, "paybell.db")
	}
	if c.Journal.Mode == "" {
		c.Journal.Mode = gateway.JournalFallback
		if c.EmbeddedRedis() {
			c.Journal.Mode = gateway.JournalAlways
		}
	}
	if c.Journal.Dir == "" {
		c.Journal.Dir = filepath.Join(c.DataDir, map[bool]string{true: "embedded-journal", false: "journal"}[c.EmbeddedRedis()])
	}
	for name, a := range c.Accounts {
		if a.Namespace == "" {
			a.Namespace = name
		}
		if entry, ok := catalog.Lookup(a.Provider); ok && a.DedupWindow == 0 {
			a.DedupWindow = DefaultDedupWindow(entry.Redelivery)
		}
		c.Accounts[name] = a
	}
}

// DefaultDedupWindow is the window for a provider that resends over the given span.
func DefaultDedupWindow(redelivery time.Duration) time.Duration {
	return max(redelivery+redelivery/4, minDedupWindow)
}

// Validate checks every part and returns all problems, each with its path. It
// reads no secret and opens no connection.
func (c *Config) Validate() error {
	problems := tagged(c)
	add := func(path string, err error) {
		for _, e := range flatten(err) {
			problems = append(problems, fmt.Errorf("%s.%w", path, e))
		}
	}
	if c.DataDir == "" {
		problems = append(problems, errors.New("data_dir: must not be empty"))
	}
	if c.MemoryLimit != 0 && c.MemoryLimit < leastMemory {
		problems = append(problems, fmt.Errorf("memory_limit: must be 0 or at least %d", leastMemory))
	}
	if n := c.Groups.PrefetchBytes; n != 0 && (n < leastPrefetch || n > 64<<30) {
		problems = append(problems, fmt.Errorf("groups.prefetch_bytes: must be 0, or between %d and %d", leastPrefetch, 64<<30))
	}
	if !streams.ValidConsumer(c.Instance) {
		problems = append(problems, fmt.Errorf("instance: %q: must be 1 to 64 letters, digits or any of . _ -", c.Instance))
	}
	if _, _, err := net.SplitHostPort(c.Embedded.Address); err != nil {
		problems = append(problems, errors.New("embedded.address: must be host:port"))
	}
	add("gateway", c.Gateway.Validate())
	add("journal", c.Journal.Validate())
	if always := c.Journal.Mode == gateway.JournalAlways; always != c.EmbeddedRedis() && c.Journal.Mode != gateway.JournalRefuse {
		problems = append(problems, fmt.Errorf("journal.mode: %s does not go with %s", c.Journal.Mode,
			map[bool]string{true: "a Redis server, which keeps what it has", false: "the embedded engine, which forgets"}[always]))
	}
	add("admin", c.Admin.Validate())
	s := c.Streams
	if c.EmbeddedRedis() {
		if s.Redis != Default().Streams.Redis {
			problems = append(problems, errors.New("streams.redis.address: must be set, because other keys of streams.redis are; without it the embedded engine would stand in for that server"))
		}
		s.Redis.Address = c.Embedded.Address
	}
	add("streams", s.Validate())
	d := c.Database
	if !c.DatabaseNamed() {
		d.SQLite = c.DataDir // a gateway needs none; who does asks DatabaseNamed
	}
	add("database", d.Validate())
	add("groups.orderstatus.worker", c.Groups.OrderStatus.Worker.Validate())
	add("groups.points.worker", c.Groups.Points.Worker.Validate())
	add("groups.points.award", c.Groups.Points.Award.Validate())
	add("groups.eventlog.worker", c.Groups.EventLog.Worker.Validate())
	add("groups.eventlog.keep", c.Groups.EventLog.Keep.Validate())
	for _, name := range sortedKeys(c.Accounts) {
		a := c.Accounts[name]
		add("accounts."+name, a.validate(name))
		// What comes out of the journal twice must be known at the second time.
		if j := c.Journal; j.Mode == gateway.JournalFallback && a.DedupWindow <= j.MaxAge {
			problems = append(problems, fmt.Errorf("accounts.%s.dedup_window: must be longer than journal.max_age (%s)", name, j.MaxAge))
		}
	}
	return errors.Join(problems...)
}

func (a Account) validate(name string) error {
	var problems []error
	if !nameForm.MatchString(name) {
		problems = append(problems, errors.New("provider: the account's name must be lower-case letters, digits, hyphens and underscores, at most 63"))
	}
	if !nameForm.MatchString(a.Namespace) {
		problems = append(problems, errors.New("namespace: must be lower-case letters, digits, hyphens and underscores, at most 63"))
	}
	if a.DedupWindow < time.Hour || a.DedupWindow > 366*24*time.Hour {
		problems = append(problems, errors.New("dedup_window: must be between 1h and 8784h"))
	}
	if a.Options != nil {
		for _, e := range flatten(a.Options.Validate()) {
			problems = append(problems, fmt.Errorf("options.%w", e))
		}
	}
	return errors.Join(problems...)
}

var structure = newValidator()

func newValidator() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		return name
	})
	return v
}

// tagged checks the validate tags of the tree that this package declares itself.
func tagged(c *Config) []error {
	var problems []error
	var bad validator.ValidationErrors
	if err := structure.Struct(c.Log); errors.As(err, &bad) {
		for _, f := range bad {
			problems = append(problems, fmt.Errorf("log.%s: %q is not one of: %s", f.Field(), f.Value(), f.Param()))
		}
	}
	return problems
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "paybell"
	}
	return name
}
