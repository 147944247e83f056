package streams

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Stats reads how far every group has come, whoever created it.
type Stats struct {
	rdb    Client
	run    *runner
	layout Layout
}

// NewStats returns a reader of stats. It only reads.
func NewStats(rdb Client, layout Layout) *Stats {
	return &Stats{rdb: rdb, run: newRunner(rdb), layout: layout}
}

// Report is the state of the streams at about one moment: partitions are read
// one after another.
type Report struct {
	// Entries is how many entries all partitions hold.
	Entries    int64            `json:"entries"`
	Partitions []PartitionStats `json:"partitions"`
	// Groups are all groups there are, by name.
	Groups []GroupStats `json:"groups"`
	// Undecodable is how many events were ever appended that are Undecodable; trimming
	// does not lower it. The status shows it beside the report.
	Undecodable int64 `json:"-"`
}

// PartitionStats is the state of one partition's stream.
type PartitionStats struct {
	Partition int    `json:"partition"`
	Key       string `json:"key"`
	Entries   int64  `json:"entries"`
	// Problem says what of the partition could not be read.
	Problem string `json:"problem,omitempty"`
}

// GroupStats is the state of one group; the counts are sums over its partitions.
type GroupStats struct {
	Group   string `json:"group"`
	Members int64  `json:"members"`
	// Lag is how many entries were not delivered yet, counted as the ledger counts what is
	// unread; LagMin is true when there were too many to count and Lag is the least it is.
	Lag    int64 `json:"lag"`
	LagMin bool  `json:"lag_min,omitempty"`
	// Pending were delivered and are not settled.
	Pending int64 `json:"pending"`
	// OldestPending is the age of the oldest pending entry since it was appended.
	OldestPending time.Duration `json:"oldest_pending_ns"`
	// Attempted are the unsettled entries that were run at least once.
	Attempted int64 `json:"attempted"`
	// Parked wait outside the stream until they are due.
	Parked int64 `json:"parked"`
	Dead   int64 `json:"dead"`
	// Lost were deleted by somebody before the group had settled them. Overtaken is how
	// often an undeclared group had entries taken from it that were beyond the retention.
	Lost      int64 `json:"lost"`
	Overtaken int64 `json:"overtaken,omitempty"`
	// Problems say what could not be read, such as a key of a wrong type.
	Problems   []string         `json:"problems,omitempty"`
	Partitions []GroupPartition `json:"partitions"`
}

// GroupPartition is the state of one group in one partition.
type GroupPartition struct {
	Partition     int           `json:"partition"`
	LastDelivered string        `json:"last_delivered"`
	Lag           int64         `json:"lag"`
	LagMin        bool          `json:"lag_min,omitempty"`
	Pending       int64         `json:"pending"`
	OldestPending time.Duration `json:"oldest_pending_ns"`
	Attempted     int64         `json:"attempted"`
	Parked        int64         `json:"parked"`
	Dead          int64         `json:"dead"`
	Lost          int64         `json:"lost"`
	Overtaken     int64         `json:"overtaken,omitempty"`
	Consumers     int64         `json:"consumers"`
	// Problem says what could not be read.
	Problem string `json:"problem,omitempty"`
	// Owner holds the partition's lease for LeaseLeft; empty when nobody does.
	Owner     string        `json:"owner,omitempty"`
	Epoch     string        `json:"epoch,omitempty"`
	LeaseLeft time.Duration `json:"lease_left_ns"`
}

// Read reads the whole state.
func (s *Stats) Read(ctx context.Context) (Report, error) {
	var report Report
	groups := make(map[string]*GroupStats)
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return Report{}, unavailable("streams: stats", err)
	}
	counts := make([]*redis.StringCmd, s.layout.Partitions())
	pipe := s.rdb.Pipeline()
	for i := range counts {
		counts[i] = pipe.HGet(ctx, s.layout.Ledger(i), "undecodable")
	}
	_, _ = pipe.Exec(ctx) // each command is looked at
	for i := range s.layout.Partitions() {
		p := PartitionStats{Partition: i, Key: s.layout.Events(i)}
		entries, in, err := s.partition(ctx, i, now)
		if wrongType(err) {
			p.Problem = overwritten(p.Key)
		} else if err != nil {
			return Report{}, unavailable("streams: stats of partition "+strconv.Itoa(i), err)
		}
		p.Entries = entries
		report.Entries += entries
		n, problem, err := s.undecodable(i, counts[i])
		if err != nil {
			return Report{}, err
		}
		report.Undecodable += n
		p.note(problem)
		report.Partitions = append(report.Partitions, p)
		for name, p := range in {
			if groups[name] == nil {
				groups[name] = &GroupStats{Group: name}
			}
			groups[name].add(p)
		}
	}
	for name, g := range groups {
		g.Members, err = s.rdb.ZCard(ctx, s.layout.Members(name)).Result()
		if wrongType(err) {
			g.Problems = append(g.Problems, overwritten(s.layout.Members(name)))
		} else if err != nil {
			return Report{}, unavailable("streams: stats of group "+name, err)
		}
		report.Groups = append(report.Groups, *g)
	}
	slices.SortFunc(report.Groups, func(a, b GroupStats) int { return cmp.Compare(a.Group, b.Group) })
	return report, nil
}

// note adds what else could not be read; "" is nothing.
func (p *PartitionStats) note(problem string) {
	if p.Problem != "" && problem != "" {
		p.Problem += "; "
	}
	p.Problem += problem
}

// undecodable is a partition's count of undecodable events, and what keeps it from being
// read. A partition that never had one has no count.
func (s *Stats) undecodable(i int, cmd *redis.StringCmd) (n int64, problem string, err error) {
	n, err = cmd.Int64()
	_, spoilt := errors.AsType[*strconv.NumError](err)
	switch {
	case errors.Is(err, redis.Nil):
		return 0, "", nil
	case spoilt:
		return 0, "the field undecodable of " + s.layout.Ledger(i) + " is no number: HDEL it", nil
	case wrongType(err):
		return 0, overwritten(s.layout.Ledger(i)), nil
	case err != nil:
		return 0, "", unavailable("streams: undecodable events of partition "+strconv.Itoa(i), err)
	}
	return n, "", nil
}

func (g *GroupStats) add(p GroupPartition) {
	g.Lag += p.Lag
	g.LagMin = g.LagMin || p.LagMin
	g.Pending += p.Pending
	g.OldestPending = max(g.OldestPending, p.OldestPending)
	g.Attempted += p.Attempted
	g.Parked += p.Parked
	g.Dead += p.Dead
	g.Lost += p.Lost
	g.Overtaken += p.Overtaken
	if p.Problem != "" {
		g.Problems = append(g.Problems, fmt.Sprintf("partition %d: %s", p.Partition, p.Problem))
	}
	g.Partitions = append(g.Partitions, p)
}

// partition reads one partition: its length, and what each group owes in it.
func (s *Stats) partition(ctx context.Context, i int, now time.Time) (int64, map[string]GroupPartition, error) {
	key := s.layout.Events(i)
	pipe := s.rdb.Pipeline()
	length := pipe.XLen(ctx, key)
	infos := pipe.XInfoGroups(ctx, key)
	_, _ = pipe.Exec(ctx) // each command is looked at
	if err := length.Err(); err != nil {
		return 0, nil, err
	}
	if err := infos.Err(); err != nil {
		if redis.HasErrorPrefix(err, "no such key") {
			return 0, nil, nil
		}
		return 0, nil, err
	}
	out := make(map[string]GroupPartition, len(infos.Val()))
	lags, err := s.lags(ctx, i, infos.Val())
	if err != nil {
		return 0, nil, err
	}
	for n, info := range infos.Val() {
		p, err := s.group(ctx, i, info, now)
		if err != nil {
			return 0, nil, err
		}
		p.Lag, p.LagMin = lags[n].n, lags[n].least
		out[info.Name] = p
	}
	return length.Val(), out, nil
}

func (s *Stats) group(ctx context.Context, i int, info redis.XInfoGroup, now time.Time) (GroupPartition, error) {
	p := GroupPartition{Partition: i, LastDelivered: info.LastDeliveredID, Consumers: info.Consumers}
	pipe := s.rdb.Pipeline()
	pending := pipe.XPending(ctx, s.layout.Events(i), info.Name)
	attempted := pipe.HKeys(ctx, s.layout.Attempts(i, info.Name))
	running := pipe.HVals(ctx, s.layout.Runs(i, info.Name))
	dead := pipe.XLen(ctx, s.layout.Dead(i, info.Name))
	lease := pipe.HMGet(ctx, s.layout.Lease(i, info.Name), "owner", "epoch")
	left := pipe.PTTL(ctx, s.layout.Lease(i, info.Name))
	parked := pipe.ZCard(ctx, s.layout.Parked(i, info.Name))
	// Of our own groups the account counts what was lost, of others the trimmer.
	lost := pipe.HGet(ctx, s.layout.Counts(i, info.Name), "lost")
	trim := pipe.HMGet(ctx, s.layout.Trim(i), "lost:"+info.Name, "overtaken:"+info.Name)
	cmds, _ := pipe.Exec(ctx) // each command is looked at
	var problems []string
	for _, cmd := range cmds {
		err := cmd.Err()
		if wrongType(err) {
			key, _ := cmd.Args()[1].(string) // each of them names one key, first
			problems = append(problems, overwritten(key))
		} else if err != nil && !errors.Is(err, redis.Nil) {
			return p, err
		}
	}
	p.Problem = strings.Join(problems, "; ")
	p.Parked = parked.Val()
	p.Lost, _ = strconv.ParseInt(lost.Val(), 10, 64) // none is 0
	if v := trim.Val(); len(v) == 2 {
		p.Lost += number(v[0])
		p.Overtaken = number(v[1])
	}
	tried := make(map[string]struct{}, len(attempted.Val()))
	for _, ids := range append(running.Val(), attempted.Val()...) {
		for id := range strings.FieldsSeq(ids) {
			tried[id] = struct{}{}
		}
	}
	p.Attempted, p.Dead = int64(len(tried)), dead.Val()
	p.Pending = pending.Val().Count
	if oldest, ok := parseID(pending.Val().Lower); ok && p.Pending > 0 {
		p.OldestPending = max(0, now.Sub(time.UnixMilli(int64(oldest.ms)))) //nolint:gosec // a time in ms
	}
	if v := lease.Val(); len(v) == 2 && v[0] != nil {
		p.Owner, _ = v[0].(string) // hash values are text
		p.Epoch, _ = v[1].(string)
		p.LeaseLeft = max(0, left.Val())
	}
	return p, nil
}

// wrongType reports that somebody has put something else in the place of a key. It hides
// nothing but what the key held.
func wrongType(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }

func overwritten(key string) string { return key + " is a key of another type: DEL it" }

// What is counted by reading is read in pages, and not without end.
const (
	lagPage  = 200
	lagMost  = 10_000
	lagBytes = 4 << 20
)

// lag is how many entries a group has not been given, or the least it is.
type lag struct {
	n     int64
	least bool
}

// lags are the lags of groups, as the ledger counts them (unread.lua). A group that has no
// account and is far behind is counted by reading on.
func (s *Stats) lags(ctx context.Context, i int, infos []redis.XInfoGroup) ([]lag, error) {
	out := make([]lag, len(infos))
	if len(infos) == 0 {
		return out, nil
	}
	keys, names := []string{s.layout.Events(i), s.layout.Ledger(i)}, make([]string, len(infos))
	for n, info := range infos {
		names[n] = info.Name
		keys = append(keys, s.layout.Counts(i, info.Name), s.layout.Parked(i, info.Name), s.layout.Dead(i, info.Name))
	}
	reply, err := s.run.run(ctx, lagScript, keys, anys(nil, names)...)
	if err != nil {
		return nil, err
	}
	for n, info := range infos {
		row, _ := at(reply, n).([]any) // the script answers lists; none for a group that has gone
		out[n] = lag{number(at(row, 0)), number(at(row, 1)) == 2}
		if !out[n].least {
			continue
		}
		if out[n], err = s.count(ctx, i, info.LastDeliveredID); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// count reads the entries behind one.
func (s *Stats) count(ctx context.Context, i int, after string) (l lag, err error) {
	for bytes, start := 0, nextID(after); l.n < lagMost && bytes < lagBytes; {
		page, err := s.rdb.XRangeN(ctx, s.layout.Events(i), start, "+", lagPage).Result()
		if err != nil {
			return lag{}, err
		}
		for _, m := range page {
			for field, v := range m.Values {
				text, _ := v.(string) // values of an entry are text
				bytes += len(field) + len(text)
			}
		}
		l.n += int64(len(page))
		if len(page) < lagPage {
			return l, nil
		}
		start = nextID(page[len(page)-1].ID)
	}
	l.least = true
	return l, nil
}
