package streams

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams/event"
)

// DeadLetters reads the dead letters of any group, replays and drops them.
type DeadLetters struct {
	rdb    Client
	run    *runner
	layout Layout
}

// NewDeadLetters returns the dead letters of every group.
func NewDeadLetters(rdb Client, layout Layout) *DeadLetters {
	return &DeadLetters{rdb: rdb, run: newRunner(rdb), layout: layout}
}

// DeadLetterQuery selects dead letters; an empty field selects all.
type DeadLetterQuery struct {
	Account  string
	OrderRef string
	Type     event.Type
	Reason   string
	// Since and Until bound the time of the dead letter: Since ≤ t < Until.
	Since, Until time.Time
	// Limit is how many to return; 100 when zero.
	Limit int
	// Bytes is about how many bytes of callbacks to return, one dead letter at least; 8 MiB
	// when zero.
	Bytes int
	// Scan is how many dead letters are looked at for a page; 10,000 when zero.
	Scan int
	// After is DeadLetterPage.Next of the page before.
	After string
}

// DeadLetterPage is one page of dead letters, newest first. It may have fewer than
// the limit, or none, while there are more.
type DeadLetterPage struct {
	DeadLetters []DeadLetter
	// Next continues after this page; empty on the last one.
	Next string
}

// deadLetterScan is how many dead letters are looked at for a page when nobody says.
const deadLetterScan = 10_000

// deadLetterBytes is how many bytes a page may have when nobody says.
const deadLetterBytes = 8 << 20

// Bounds of what is read at a time, of all partitions together: dead letters carry whole
// callbacks, whose sizes are known only when they are here.
const (
	// deadLetterPage is how many dead letters one command reads at most.
	deadLetterPage = 50
	// deadLettersRead is about how many bytes are read at a time.
	deadLettersRead = 4 << 20
	// deadLetterGrowth is how much more a command may read than the one before it.
	deadLetterGrowth = 4
)

// List returns dead letters of a group, newest first over all partitions. What the
// query does not select is read, too: a page ends early when it has q.Bytes, when q.Scan
// have been looked at or half of the time until the deadline of ctx is gone, so that a query that
// selects few of very many is answered in pages that each end. Of a group that there
// is not it returns ErrUnknownGroup and names those that there are.
func (d *DeadLetters) List(ctx context.Context, group string, q DeadLetterQuery) (DeadLetterPage, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	if q.Scan <= 0 {
		q.Scan = deadLetterScan
	}
	if q.Bytes <= 0 {
		q.Bytes = deadLetterBytes
	}
	late := func() bool { return false }
	if deadline, bounded := ctx.Deadline(); bounded {
		half := time.Until(deadline) / 2
		late = func() bool { return time.Until(deadline) < half }
	}
	after, afterPartition := position{}, -1
	if q.After != "" {
		partition, id, err := parseDeadLetterID(q.After, d.layout.Partitions())
		if err != nil {
			return DeadLetterPage{}, err
		}
		after, _ = parseID(id) // parseDeadLetterID has read it
		afterPartition = partition
	}
	tails := make([]*deadTail, d.layout.Partitions())
	for i := range tails {
		tails[i] = &deadTail{
			d: d, group: group, partition: i, end: q.end(after, afterPartition, i), start: q.start(),
			count: 1, share: deadLettersRead / len(tails),
		}
	}
	var page DeadLetterPage
	last, bytes := "", 0 // looked at, returned
	for scanned := 0; ; scanned++ {
		next, err := newest(ctx, tails)
		if err != nil {
			return DeadLetterPage{}, err
		}
		if next == nil {
			if len(page.DeadLetters) == 0 && q.After == "" {
				return page, d.known(ctx, group)
			}
			return page, nil
		}
		if scanned > 0 && (scanned >= q.Scan || late()) {
			page.Next = last
			return page, nil
		}
		letter := next.pop()
		last = letter.ID
		if !q.matches(&letter) {
			continue
		}
		size := len(letter.Record.Raw) + len(letter.Record.Item)
		if len(page.DeadLetters) == q.Limit || len(page.DeadLetters) > 0 && bytes+size > q.Bytes {
			page.Next = page.DeadLetters[len(page.DeadLetters)-1].ID
			return page, nil
		}
		page.DeadLetters = append(page.DeadLetters, letter)
		bytes += size
	}
}

// known returns ErrUnknownGroup unless some partition has the group, or dead letters of
// it.
func (d *DeadLetters) known(ctx context.Context, group string) error {
	pipe := d.rdb.Pipeline()
	infos := make([]*redis.XInfoGroupsCmd, d.layout.Partitions())
	dead := make([]*redis.IntCmd, len(infos))
	for i := range infos {
		infos[i] = pipe.XInfoGroups(ctx, d.layout.Events(i))
		dead[i] = pipe.Exists(ctx, d.layout.Dead(i, group))
	}
	_, _ = pipe.Exec(ctx) // each command is looked at
	var names []string
	for i, info := range infos {
		if err := info.Err(); err != nil && !redis.HasErrorPrefix(err, "no such key") && !wrongType(err) {
			return unavailable("streams: find group "+group, err)
		}
		for _, g := range info.Val() {
			names = append(names, g.Name)
		}
		if dead[i].Val() > 0 {
			return nil
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if slices.Contains(names, group) {
		return nil
	}
	there := "there is none yet"
	if len(names) > 0 {
		there = "there are " + strings.Join(names, ", ")
	}
	return fmt.Errorf("%w: %q; %s", ErrUnknownGroup, group, there)
}

// Show returns one dead letter, or ErrNoDeadLetter.
func (d *DeadLetters) Show(ctx context.Context, group, id string) (DeadLetter, error) {
	partition, entryID, err := parseDeadLetterID(id, d.layout.Partitions())
	if err != nil {
		return DeadLetter{}, err
	}
	found, err := d.rdb.XRange(ctx, d.layout.Dead(partition, group), entryID, entryID).Result()
	if err != nil {
		return DeadLetter{}, unavailable("streams: show dead letter "+id, err)
	}
	if len(found) == 0 {
		return DeadLetter{}, fmt.Errorf("streams: group %s, %s: %w", group, id, ErrNoDeadLetter)
	}
	return deadLetterOf(partition, found[0]), nil
}

// Count is how many dead letters a group has.
func (d *DeadLetters) Count(ctx context.Context, group string) (int64, error) {
	pipe := d.rdb.Pipeline()
	cmds := make([]*redis.IntCmd, d.layout.Partitions())
	for i := range cmds {
		cmds[i] = pipe.XLen(ctx, d.layout.Dead(i, group))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, unavailable("streams: count dead letters", err)
	}
	var n int64
	for _, cmd := range cmds {
		n += cmd.Val()
	}
	return n, nil
}

func (q *DeadLetterQuery) matches(l *DeadLetter) bool {
	e := &l.Record.Event
	return (q.Account == "" || e.Account == q.Account) &&
		(q.OrderRef == "" || e.OrderRef() == q.OrderRef) &&
		(q.Type == "" || e.Type == q.Type) &&
		(q.Reason == "" || l.Reason == q.Reason)
}

// start and end are the bounds of what is read of one partition's stream, whose
// ids begin with the time of the dead letter. The order of dead letters is by
// id, then partition, both downwards.
func (q *DeadLetterQuery) start() string {
	if q.Since.IsZero() {
		return "-"
	}
	return strconv.FormatInt(max(0, q.Since.UnixMilli()), 10) + "-0"
}

func (q *DeadLetterQuery) end(after position, afterPartition, partition int) string {
	end, bounded := after, afterPartition >= 0
	if bounded && partition >= afterPartition {
		end = end.before()
	}
	if !q.Until.IsZero() {
		until := position{ms: uint64(max(0, q.Until.UnixMilli()))}.before()
		if !bounded || until.less(end) {
			end, bounded = until, true
		}
	}
	if !bounded {
		return "+"
	}
	return end.String()
}

// deadTail walks one partition's dead letters from the newest.
type deadTail struct {
	d          *DeadLetters
	group      string
	partition  int
	start, end string
	page       []redis.XMessage
	over       bool
	// count is how many are read next, share about how many bytes that should be.
	count, share int
}

// newest is the tail whose next dead letter is the newest, nil when all are over.
func newest(ctx context.Context, tails []*deadTail) (*deadTail, error) {
	if err := fill(ctx, tails); err != nil {
		return nil, err
	}
	var best *deadTail
	for _, t := range tails {
		if len(t.page) > 0 && (best == nil || !t.head().less(best.head())) {
			best = t
		}
	}
	return best, nil
}

// fill reads the next page of every tail that has run out, in one pipeline.
func fill(ctx context.Context, tails []*deadTail) error {
	var (
		empty []*deadTail
		cmds  []*redis.XMessageSliceCmd
		pipe  redis.Pipeliner
	)
	for _, t := range tails {
		if len(t.page) > 0 || t.over {
			continue
		}
		if pipe == nil {
			pipe = t.d.rdb.Pipeline()
		}
		empty = append(empty, t)
		cmds = append(cmds, pipe.XRevRangeN(ctx, t.d.layout.Dead(t.partition, t.group), t.end, t.start, int64(t.count)))
	}
	if pipe == nil {
		return nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return unavailable("streams: list dead letters", err)
	}
	for i, t := range empty {
		t.page = cmds[i].Val()
		t.over = len(t.page) < t.count
		if n := len(t.page); n > 0 {
			t.learn()
			last, _ := parseID(t.page[n-1].ID) // Redis gave it
			t.end = last.before().String()
		}
	}
	return nil
}

// learn sets how many are read next by how large those were that have come.
func (t *deadTail) learn() {
	bytes := 0
	for i := range t.page {
		for _, v := range t.page[i].Values {
			text, _ := v.(string) // values of an entry are text
			bytes += len(text)
		}
	}
	t.count = max(1, min(t.share*len(t.page)/max(1, bytes), deadLetterGrowth*t.count, deadLetterPage))
}

func (t *deadTail) head() position {
	p, _ := parseID(t.page[0].ID) // Redis gave it
	return p
}

func (t *deadTail) pop() DeadLetter {
	l := deadLetterOf(t.partition, t.page[0])
	t.page = t.page[1:]
	return l
}

// deadLetterOf reads an entry of a dead stream: what settle.lua put before the
// fields of the record.
func deadLetterOf(partition int, m redis.XMessage) DeadLetter {
	fields := make(map[string]string, len(m.Values))
	for k, v := range m.Values {
		fields[k], _ = v.(string) // values of an entry are text
	}
	l := DeadLetter{
		ID:        strconv.Itoa(partition) + "-" + m.ID,
		Partition: partition,
		Group:     fields["group"],
		EntryID:   fields["src_id"],
		Reason:    fields["reason"],
		Error:     fields["error"],
		Consumer:  fields["consumer"],
		ReplayOf:  fields["replay_of"],
	}
	l.Attempts, _ = strconv.Atoi(fields["attempts"]) // only settle.lua writes it
	// The field dead_at says the same to within a millisecond; the id is what the
	// list is ordered and bounded by.
	id, _ := parseID(m.ID)                        // Redis gave it
	l.DeadAt = time.UnixMilli(int64(id.ms)).UTC() //nolint:gosec // a time in ms
	// A dead letter of an entry that could not be read, or was gone, has no record
	// to show; its reason says so. Our own fields are unknown to ParseRecord, which
	// passes them over.
	if r, err := event.ParseRecord(fields); err == nil {
		l.Record = r
	}
	return l
}

// parseDeadLetterID reads "<partition>-<milliseconds>-<number>".
func parseDeadLetterID(text string, partitions int) (partition int, id string, err error) {
	head, id, _ := strings.Cut(text, "-")
	partition, err = strconv.Atoi(head)
	if err != nil || partition < 0 || partition >= partitions || !strings.Contains(id, "-") {
		return 0, "", fmt.Errorf("%q: %w", text, ErrDeadLetterID)
	}
	if _, ok := parseID(id); !ok {
		return 0, "", fmt.Errorf("%q: %w", text, ErrDeadLetterID)
	}
	return partition, id, nil
}
