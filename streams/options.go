package streams

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/paybell/paybell/configs/secret"
)

// Options are the settings of the streams.
type Options struct {
	// Redis says how to reach the server.
	Redis RedisOptions `yaml:"redis"`
	// Durability is what a success reply stands for: redis (appended to a server that
	// restores its data after a restart), or fsync (on that server's disk). A server
	// that does not keep it is refused at start. One that ceases to while the process
	// runs is not appended to until it does again.
	Durability string `yaml:"durability"`
	// Accept names what the server may lack all the same: no-aof (a restart of the
	// server forgets), eviction (it may drop unread events), appendfsync-no (the
	// operating system decides when to write), unverified (with fsync: it does not
	// let us ask for appendfsync).
	Accept []string `yaml:"accept,omitempty"`
	// Prefix begins every key. Two installations can share a server by it.
	Prefix string `yaml:"prefix"`
	// Partitions is how many streams the events are spread over. It bounds how many
	// processes can read one group at once. It stands in Redis from the first start on,
	// and a process that is configured otherwise is refused. 0 is what stands there when
	// the process starts, or 16.
	Partitions int `yaml:"partitions"`
	// LeaseTTL is how long a partition stays with an owner that gives no sign of
	// life: what a killed worker costs the orders of its partitions.
	LeaseTTL time.Duration `yaml:"lease_ttl"`
	// Block is how long an idle reader waits inside Redis at a time.
	Block time.Duration `yaml:"block"`
	// ConsumerIdle is how long a consumer that owes nothing is kept in a group
	// after its last read.
	ConsumerIdle time.Duration `yaml:"consumer_idle"`
	// DeclaredGroups are the consumer groups of other services that trimming waits
	// for, beside the built-in ones that are enabled. They are created at the start
	// of the streams before they first read. All processes must name the same.
	DeclaredGroups []string `yaml:"declared_groups,omitempty"`
	// TrimEvery is how often a worker process removes what every declared group is
	// done with.
	TrimEvery time.Duration `yaml:"trim_every"`
	// Keep is how much of that stays for a while. From it a group gets again what its
	// database has lost by going back to an earlier state: a backup that was restored, a
	// standby that was promoted. The embedded engine keeps nothing.
	Keep KeepOptions `yaml:"keep"`
	// Retention is how much is kept for groups that nobody declared. Beyond either
	// bound they are overtaken, with an alarm; declared groups never are.
	Retention RetentionOptions `yaml:"retention"`
	// TakeBytes is about how many bytes of entries one read of a partition may
	// bring; the number of entries asked for is lowered to keep to it.
	TakeBytes int `yaml:"take_bytes"`
	// Writer bounds the group commit.
	Writer WriterOptions `yaml:"writer"`
}

// KeepOptions bound what is kept of entries that every declared group has settled;
// whichever bound is reached first counts.
type KeepOptions struct {
	// Bytes is about how much memory of Redis the streams may take with it, all together;
	// every partition has an equal share.
	Bytes int64 `yaml:"bytes"`
	// Age is how long an entry is kept from its append on; 0 keeps none.
	Age time.Duration `yaml:"age"`
}

// RetentionOptions bound what is kept for undeclared groups alone.
type RetentionOptions struct {
	// Bytes is about how much memory of Redis the streams may take, all together;
	// every partition has an equal share.
	Bytes int64 `yaml:"bytes"`
	// Age is how old their oldest entry may be.
	Age time.Duration `yaml:"age"`
}

// RedisOptions say how to reach a Redis server.
type RedisOptions struct {
	// Address is host:port.
	Address string `yaml:"address"`
	// Username is the ACL user; empty for the default user.
	Username string `yaml:"username,omitempty"`
	// Password is where the password is read from, again at every new connection,
	// so that it can be rotated without a restart.
	Password secret.Source `yaml:"password,omitempty"`
	// DB is the database number; Cluster has only 0.
	DB int `yaml:"db"`
	// TLS encrypts the connection.
	TLS TLSOptions `yaml:"tls"`
	// DialTimeout, ReadTimeout and WriteTimeout bound a connection's steps. A batch
	// of appends is one read.
	DialTimeout  time.Duration `yaml:"dial_timeout"`
	ReadTimeout  time.Duration `yaml:"read_timeout"`
	WriteTimeout time.Duration `yaml:"write_timeout"`
	// Connections bounds the connections of the client that writes and settles.
	// Waiting readers have a client of their own.
	Connections int `yaml:"connections"`
}

// TLSOptions are the settings of TLS towards Redis.
type TLSOptions struct {
	// Enabled turns TLS on.
	Enabled bool `yaml:"enabled"`
	// CAFile is a PEM file of the authorities to trust instead of the system's.
	CAFile string `yaml:"ca_file,omitempty"`
	// CertFile and KeyFile are this client's PEM certificate and key.
	CertFile string `yaml:"cert_file,omitempty"`
	KeyFile  string `yaml:"key_file,omitempty"`
	// ServerName is the name the server's certificate must carry; the address's
	// host when empty.
	ServerName string `yaml:"server_name,omitempty"`
}

// WriterOptions bound the group commit of a Writer.
type WriterOptions struct {
	// Connections is how many batches may be on their way at once; 0 is 1. What comes
	// while a batch is on its way is in the next one: more connections make smaller
	// batches, each of which costs Redis as much as a large one, and with fsync a sync
	// of its own.
	Connections int `yaml:"connections"`
	// MaxBatch and MaxBatchBytes bound what is sent at a time. A call of the append
	// script carries at most 256 records and 1 MiB of it.
	MaxBatch      int `yaml:"max_batch"`
	MaxBatchBytes int `yaml:"max_batch_bytes"`
	// Queue and QueueBytes bound what waits; beyond them ErrOverloaded is returned
	// at once.
	Queue      int `yaml:"queue"`
	QueueBytes int `yaml:"queue_bytes"`
}

// DefaultOptions are the settings used where none are given.
func DefaultOptions() Options {
	return Options{
		Redis: RedisOptions{
			Address:      "127.0.0.1:6379",
			DialTimeout:  2 * time.Second,
			ReadTimeout:  3 * time.Second,
			WriteTimeout: 3 * time.Second,
			Connections:  32,
		},
		Durability:   DurabilityRedis,
		Prefix:       "paybell",
		Partitions:   16,
		LeaseTTL:     10 * time.Second,
		Block:        time.Second,
		ConsumerIdle: time.Hour,
		TrimEvery:    time.Second,
		Keep:         KeepOptions{Bytes: 128 << 20, Age: time.Hour},
		Retention:    RetentionOptions{Bytes: 1 << 30, Age: 7 * 24 * time.Hour},
		TakeBytes:    8 << 20,
		Writer:       DefaultWriterOptions(),
	}
}

// DefaultWriterOptions are the writer's settings used where none are given.
func DefaultWriterOptions() WriterOptions {
	return WriterOptions{Connections: 1, MaxBatch: 256, MaxBatchBytes: 8 << 20, Queue: 4096, QueueBytes: 64 << 20}
}

// Group returns the part of the options that a Group takes.
func (o Options) Group() GroupOptions {
	return GroupOptions{LeaseTTL: o.LeaseTTL, ConsumerIdle: o.ConsumerIdle, TakeBytes: o.TakeBytes}
}

// Trim returns the part of the options that a Trimmer takes.
func (o Options) Trim() TrimOptions {
	return TrimOptions{Every: o.TrimEvery, Retention: o.Retention, Keep: o.Keep, GhostIdle: sweepTTLs * o.LeaseTTL}
}

// Validate reports every problem, each with the path of its field.
func (o Options) Validate() error {
	errs := []error{
		under("redis", o.Redis.Validate()),
		o.checkDurability(),
		checkPrefix(o.Prefix),
		o.checkPartitions(),
		between("lease_ttl", o.LeaseTTL, time.Second, 5*time.Minute),
		between("block", o.Block, 10*time.Millisecond, 10*time.Second),
		between("consumer_idle", o.ConsumerIdle, time.Minute, 30*24*time.Hour),
		checkGroups("declared_groups", o.DeclaredGroups),
		between("trim_every", o.TrimEvery, 100*time.Millisecond, time.Hour),
		under("keep", o.Keep.Validate()),
		under("retention", o.Retention.Validate()),
		between("take_bytes", o.TakeBytes, 64<<10, 1<<30),
		under("writer", o.Writer.Validate()),
	}
	if o.Writer.Connections > o.Redis.Connections {
		errs = append(errs, errors.New("writer.connections: must not be more than redis.connections"))
	}
	return errors.Join(errs...)
}

// Validate reports every problem, each with the path of its field.
func (o KeepOptions) Validate() error {
	return errors.Join(
		between("bytes", o.Bytes, 1<<20, 1<<50),
		between("age", o.Age, 0, 366*24*time.Hour),
	)
}

// Validate reports every problem, each with the path of its field.
func (o RetentionOptions) Validate() error {
	return errors.Join(
		between("bytes", o.Bytes, 1<<20, 1<<50),
		between("age", o.Age, time.Minute, 366*24*time.Hour),
	)
}

// Validate reports every problem, each with the path of its field.
func (o RedisOptions) Validate() error {
	var errs []error
	if host, port, err := net.SplitHostPort(o.Address); err != nil || host == "" || port == "" || strings.Contains(port, "/") {
		errs = append(errs, errors.New("address: must read host:port"))
	}
	if !o.Password.IsZero() {
		if err := o.Password.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("password: %w", err))
		}
	}
	if o.Username != "" && o.Password.IsZero() {
		errs = append(errs, errors.New("password: must be given with a username"))
	}
	errs = append(errs,
		between("db", o.DB, 0, 1<<20),
		under("tls", o.TLS.Validate()),
		between("dial_timeout", o.DialTimeout, 10*time.Millisecond, time.Minute),
		between("read_timeout", o.ReadTimeout, 10*time.Millisecond, time.Minute),
		between("write_timeout", o.WriteTimeout, 10*time.Millisecond, time.Minute),
		between("connections", o.Connections, 1, 1024),
	)
	return errors.Join(errs...)
}

// Validate reports every problem, each with the path of its field.
func (o TLSOptions) Validate() error {
	var errs []error
	if !o.Enabled && o != (TLSOptions{}) {
		errs = append(errs, errors.New("enabled: must be true when other settings of tls are given"))
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		errs = append(errs, errors.New("key_file: must be given together with cert_file"))
	}
	return errors.Join(errs...)
}

// Validate reports every problem, each with the path of its field.
func (o WriterOptions) Validate() error {
	return errors.Join(
		between("connections", o.Connections, 0, 64),
		between("max_batch", o.MaxBatch, 1, 4096),
		between("max_batch_bytes", o.MaxBatchBytes, 64<<10, 256<<20),
		between("queue", o.Queue, 1, 1<<20),
		between("queue_bytes", o.QueueBytes, 1<<20, 8<<30),
	)
}

func between[T int | int64 | time.Duration](path string, v, low, high T) error {
	if v < low || v > high {
		return fmt.Errorf("%s: must be between %v and %v", path, low, high)
	}
	return nil
}

func checkGroups(path string, names []string) error {
	var errs []error
	for i, name := range names {
		if !groupForm.MatchString(name) {
			errs = append(errs, fmt.Errorf("%s[%d]: must be 1 to 64 letters, digits or any of . _ -", path, i))
		}
	}
	return errors.Join(errs...)
}

// under puts a section's path before each of its problems.
func under(path string, err error) error {
	if err == nil {
		return nil
	}
	many, ok := err.(interface{ Unwrap() []error }) // the join itself, not one further down
	if !ok {
		return fmt.Errorf("%s.%w", path, err)
	}
	var errs []error
	for _, e := range many.Unwrap() {
		errs = append(errs, under(path, e))
	}
	return errors.Join(errs...)
}
