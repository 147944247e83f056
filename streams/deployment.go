package streams

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// layoutVersion counts the rules that partitionOf, tags and the names of keys follow.
	layoutVersion = 1
	// format counts what this build reads in Redis. It grows with every change that an
	// older build cannot read, and oldestFormat is of the oldest build that may run
	// beside this one.
	format, oldestFormat = 2, 1
	// changedFormat is what a build has to read once the number of partitions was changed:
	// former numbers, whose marks are asked, and generations.
	changedFormat = 2
)

// Deployment is what all processes on one prefix of a Redis server have in common: its
// id, and how events are laid out. It stands in Redis (Layout.Deployment) from the first
// start on. A process that is configured otherwise would append where nobody reads, or
// read where nobody appends, and is refused. Safe for concurrent use.
type Deployment struct {
	layout Layout
	id     atomic.Pointer[string]
	past   atomic.Pointer[past]
}

// past is what a deployment was before its number of partitions was changed.
type past struct {
	// generation counts the changes.
	generation string
	former     []former
	text       string // that former was read from
}

// former are partitions of a number that there was before.
type former struct {
	layout Layout
	// until is when the last event was appended there, by Redis's clock.
	until time.Time
}

// NewDeployment returns the deployment of a layout. It has no id before Expect,
// Establish, or a connection to a server that holds its record.
func NewDeployment(layout Layout) *Deployment { return &Deployment{layout: layout} }

// Layout is how its events are laid out.
func (d *Deployment) Layout() Layout { return d.layout }

// ID is the deployment's id, or "" while it is not known.
func (d *Deployment) ID() string {
	if id := d.id.Load(); id != nil {
		return *id
	}
	return ""
}

// Expect says that what belongs to this process, such as its database, is of the
// deployment with that id. It returns ErrDeployment where another id is known already.
func (d *Deployment) Expect(id string) error {
	if d.id.CompareAndSwap(nil, &id) {
		return nil
	}
	if known := d.ID(); known != id {
		return fmt.Errorf("%w: %s and %s", ErrDeployment, known, id)
	}
	return nil
}

// Look is for NewWriteClient: a server is asked with each new connection whether it is
// this deployment's. One that lost its record, with everything else, is given it again.
// It returns ErrLayout, ErrDeployment, or an error that wraps ErrUnavailable. A server
// that answers otherwise, as a node of a cluster does, is for Watch to name: Look fails
// appends alone.
func (d *Deployment) Look(ctx context.Context, c *redis.Conn) error {
	r, err := d.read(ctx, c)
	if err == nil && (r != nil || d.ID() != "") { // Without either, Establish makes it.
		err = d.settle(ctx, c, r, d.ID())
	}
	if _, answered := errors.AsType[redis.Error](err); answered && ctx.Value(appending{}) == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("streams: new connection: %w", err) // go-redis takes the outermost off
	}
	return nil
}

// Verify compares with what a server holds, if it holds anything. It returns what Look
// does.
func (d *Deployment) Verify(ctx context.Context, rdb Client) error {
	r, err := d.read(ctx, rdb)
	if err != nil || r == nil {
		return err
	}
	return d.settle(ctx, rdb, r, d.ID())
}

// Establish makes the record unless there is one, and learns its id. It returns what
// Look does.
func (d *Deployment) Establish(ctx context.Context, rdb Client) error {
	r, err := d.read(ctx, rdb)
	if err != nil {
		return err
	}
	id := d.ID()
	if id == "" {
		id = strings.ToLower(rand.Text())
	}
	return d.settle(ctx, rdb, r, id)
}

// Database is the id of the database that keeps the effects of the deployment, "" while
// none does.
func (d *Deployment) Database(ctx context.Context, rdb Client) (string, error) {
	id, err := rdb.HGet(ctx, d.layout.Deployment(), "database").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", unavailable("streams: ask which database keeps the effects", err)
	}
	return id, nil
}

// ClaimDatabase makes that database the one that keeps the effects, unless one does, and
// returns which it is. Establish first.
func (d *Deployment) ClaimDatabase(ctx context.Context, rdb Client, id string) (string, error) {
	keeps, err := d.Database(ctx, rdb)
	if err != nil || keeps != "" {
		return keeps, err
	}
	if err := rdb.HSetNX(ctx, d.layout.Deployment(), "database", id).Err(); err != nil {
		return "", unavailable("streams: name the database that keeps the effects", err)
	}
	return d.Database(ctx, rdb)
}

// MoveDatabase makes another database the one that keeps the effects.
func (d *Deployment) MoveDatabase(ctx context.Context, rdb Client, id string) error {
	if err := rdb.HSet(ctx, d.layout.Deployment(), "database", id).Err(); err != nil {
		return unavailable("streams: name the database that keeps the effects", err)
	}
	return nil
}

// generation is how often the number of partitions was changed, as far as is known.
func (d *Deployment) generation() string {
	if p := d.past.Load(); p != nil {
		return p.generation
	}
	return "0"
}

// former are the partitions of other numbers that there were.
func (d *Deployment) former() []former {
	if p := d.past.Load(); p != nil {
		return p.former
	}
	return nil
}

// settle makes the record where it is missing, checks it, and keeps its id.
func (d *Deployment) settle(ctx context.Context, rdb redis.Cmdable, r *deployment, id string) error {
	if r == nil {
		if err := d.strange(ctx, rdb); err != nil {
			return err
		}
		var err error
		if r, err = d.make(ctx, rdb, id); err != nil {
			return err
		}
	}
	if err := r.check(d.layout); err != nil {
		return err
	}
	if known := d.past.Load(); known == nil || known.text != r.former || known.generation != r.generation {
		past, err := r.past(d.layout)
		if err != nil {
			return err
		}
		d.past.Store(past)
	}
	if err := d.Expect(r.id); err != nil {
		return fmt.Errorf("%w: redis, under the prefix %s, holds the second", err, d.layout.prefix)
	}
	return nil
}

// deployment is the record as it stands.
type deployment struct {
	id                               string
	partitions, layout, oldestFormat int
	// generation, former and change are "" where the number of partitions was never
	// changed, and is not being changed.
	generation, former, change string
}

// deploymentFields are read, in this order; the first four are there from the first start on.
var deploymentFields = []string{"id", "partitions", "layout", "oldest_format", "generation", "former", "change"}

// read returns nil where there is no record.
func (d *Deployment) read(ctx context.Context, rdb redis.Cmdable) (*deployment, error) {
	values, err := rdb.HMGet(ctx, d.layout.Deployment(), deploymentFields...).Result()
	if errors.Is(err, ErrLayout) || errors.Is(err, ErrDeployment) {
		return nil, err // Look refused the connection.
	}
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil, fmt.Errorf("%w: %s is no hash", ErrLayout, d.layout.Deployment())
	}
	if err != nil {
		return nil, unavailable("streams: read the record of the deployment", err)
	}
	if values[0] == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	return parseDeployment(values)
}

func (d *Deployment) make(ctx context.Context, rdb redis.Cmdable, id string) (*deployment, error) {
	values, err := rdb.Eval(ctx, deploymentScript.text, []string{d.layout.Deployment()},
		id, d.layout.Partitions(), layoutVersion, oldestFormat).Slice()
	if err != nil {
		return nil, unavailable("streams: make the record of the deployment", err)
	}
	return parseDeployment(values)
}

func parseDeployment(values []any) (*deployment, error) {
	r := &deployment{}
	r.id, _ = values[0].(string) // "" is refused below
	for i, to := range []*int{&r.partitions, &r.layout, &r.oldestFormat} {
		text, _ := values[i+1].(string) // "" is no number
		n, err := strconv.Atoi(text)
		if err != nil || r.id == "" {
			return nil, fmt.Errorf("%w: its record cannot be read", ErrLayout)
		}
		*to = n
	}
	for i, to := range []*string{&r.generation, &r.former, &r.change} {
		*to, _ = at(values, 4+i).(string) // "" while there is none
	}
	r.generation = cmp.Or(r.generation, "0")
	return r, nil
}

// past reads what there was before: "<number>:<time in ms>", with blanks between.
func (r *deployment) past(l Layout) (*past, error) {
	p := &past{generation: r.generation, text: r.former}
	for text := range strings.FieldsSeq(r.former) {
		number, at, _ := strings.Cut(text, ":")
		n, err := strconv.Atoi(number)
		ms, badTime := strconv.ParseInt(at, 10, 64)
		var before Layout
		if err = errors.Join(err, badTime); err == nil {
			before, err = NewLayout(l.prefix, n)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: its record cannot be read: former partitions %q", ErrLayout, text)
		}
		p.former = append(p.former, former{before, time.UnixMilli(ms)})
	}
	return p, nil
}

// check compares the record with what this process was built and configured for.
func (r *deployment) check(l Layout) error {
	switch {
	case r.oldestFormat > format || r.layout != layoutVersion:
		return fmt.Errorf("%w: a newer paybell has written here what this one cannot read: run that version, or a later one", ErrLayout)
	case r.partitions != l.Partitions():
		return fmt.Errorf("%w: under the prefix %s there are %d partitions, the configuration says %d: set streams.partitions to %d, or name another streams.prefix; paybell partitions change is for another number",
			ErrLayout, l.prefix, r.partitions, l.Partitions(), r.partitions)
	default:
		return nil
	}
}

// strange refuses streams of another layout, written by a version that made no record.
func (d *Deployment) strange(ctx context.Context, rdb redis.Cmdable) error {
	ours := make(map[string]bool, d.layout.Partitions())
	for p := range d.layout.Partitions() {
		ours[d.layout.Events(p)] = true
	}
	for cursor := uint64(0); ; {
		keys, next, err := rdb.ScanType(ctx, cursor, d.layout.prefix+":{*}:events", scanned, "stream").Result()
		if denied(err) {
			return nil // Nothing else depends on SCAN.
		}
		if err != nil {
			return unavailable("streams: look for streams of another layout", err)
		}
		for _, key := range keys {
			if !ours[key] {
				return fmt.Errorf("%w: the stream %s is of another number of partitions than %d: set streams.partitions to what it was, or name another streams.prefix",
					ErrLayout, key, d.layout.Partitions())
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// scanned is how many keys a SCAN looks at in one step.
const scanned = 1000
