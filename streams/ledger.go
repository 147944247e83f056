package streams

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Account says where the events of a group are. Every event that was appended is in
// exactly one state, so
//
//	Appended + Base = Unread + Pending + Parked + Settled + Dead + Dropped + Lost
//
// Settled, Dropped, Lost and Appended are counted inside the scripts that move events,
// the others are what lies there at that moment.
type Account struct {
	// Appended is how many events paybell has added to the streams.
	Appended int64 `json:"appended"`
	// Base is what the group has been given again, because it was created again, less
	// what was gone before it was created.
	Base int64 `json:"base"`
	// Unread were not delivered to the group, Pending were delivered, Parked wait
	// outside the stream; none of them is settled.
	Unread  int64 `json:"unread"`
	Pending int64 `json:"pending"`
	Parked  int64 `json:"parked"`
	// Settled have had their effect. Dead are dead letters now, Dropped were.
	Settled int64 `json:"settled"`
	Dead    int64 `json:"dead"`
	Dropped int64 `json:"dropped"`
	// Lost were deleted by somebody before the group had settled them.
	Lost int64 `json:"lost"`
	// Again is the part of Base that nobody accounts for: events that were found twice,
	// settled twice, given again by hand, or never appended.
	Again int64 `json:"again"`
	// Alarm is what of Lost and Again no operator has acknowledged.
	Alarm Alarm `json:"alarm"`
	// Replayed is how many dead letters were delivered once more; they are in one of
	// the states above. Created is how often the group was created in a partition.
	Replayed int64 `json:"replayed"`
	Created  int64 `json:"created"`
	// Derived: in some partition there was too much unread to count, and Unread is what
	// the equation leaves there, or for a subscriber the least it is.
	Derived bool `json:"derived,omitempty"`
	// Subscriber: another service acknowledges for the group, so nothing is counted, and
	// Settled is what the equation leaves: also what was trimmed before the group was
	// created.
	Subscriber bool `json:"subscriber,omitempty"`
	// Unreadable is in how many partitions the account could not be read, because a key
	// is of another type. They are in none of the sums.
	Unreadable int64 `json:"unreadable,omitempty"`
}

// Alarm is what was found that must not be. It is kept in Redis and lasts until somebody
// acknowledges it.
type Alarm struct {
	// Lost and Again are deliveries: see Account.
	Lost  int64 `json:"lost"`
	Again int64 `json:"again"`
}

// Difference is how many events are nowhere, or, below zero, somewhere twice.
func (a *Account) Difference() int64 {
	return a.Appended + a.Base - a.Unread - a.Pending - a.Parked - a.Settled - a.Dead - a.Dropped - a.Lost
}

func (a *Account) add(b *Account) {
	a.Appended += b.Appended
	a.Base += b.Base
	a.Unread += b.Unread
	a.Pending += b.Pending
	a.Parked += b.Parked
	a.Settled += b.Settled
	a.Dead += b.Dead
	a.Dropped += b.Dropped
	a.Lost += b.Lost
	a.Again += b.Again
	a.Alarm.Lost += b.Alarm.Lost
	a.Alarm.Again += b.Alarm.Again
	a.Replayed += b.Replayed
	a.Created += b.Created
	a.Derived = a.Derived || b.Derived
	a.Subscriber = a.Subscriber || b.Subscriber
	a.Unreadable += b.Unreadable
}

// Ledger reads the accounts of the groups that this installation runs itself, and of
// those for which other services acknowledge as far as it can be told.
type Ledger struct {
	run         *runner
	layout      Layout
	own, groups []string // groups are all, own first
	log         *slog.Logger
	m           *ledgerMetrics
}

// NewLedger returns a reader of the accounts of our own groups.
func NewLedger(rdb Client, layout Layout, own []string, log *slog.Logger, reg prometheus.Registerer) *Ledger {
	return &Ledger{run: newRunner(rdb), layout: layout, own: own, groups: own, log: log, m: newLedgerMetrics(reg)}
}

// Subscribers adds groups for which other services acknowledge. It is called before the
// ledger is read.
func (l *Ledger) Subscribers(groups []string) {
	l.groups = slices.Clone(l.own)
	for _, name := range groups {
		if !slices.Contains(l.groups, name) {
			l.groups = append(l.groups, name)
		}
	}
}

// Read adds up every group's account over the partitions, each of which is read at one
// moment. A group that is not there yet is left out.
func (l *Ledger) Read(ctx context.Context) (map[string]Account, error) {
	accounts, _, err := l.read(ctx)
	return accounts, err
}

// read also returns the partitions of each group whose accounts do not add up, or cannot
// be read.
func (l *Ledger) read(ctx context.Context) (map[string]Account, map[string][]int, error) {
	sums, differing := make(map[string]Account, len(l.groups)), map[string][]int{}
	for i := range l.layout.Partitions() {
		keys := []string{l.layout.Events(i), l.layout.Ledger(i), l.layout.Trim(i)}
		for _, name := range l.own {
			keys = append(keys, l.layout.Counts(i, name), l.layout.Parked(i, name), l.layout.Dead(i, name))
		}
		reply, err := l.run.run(ctx, ledgerScript, keys, anys([]any{len(l.own)}, l.groups)...)
		if err != nil {
			return nil, nil, err
		}
		for n, name := range l.groups {
			row, _ := at(reply, n).([]any) // the script answers lists
			if len(row) == 0 {
				continue
			}
			a := accountOf(row, n >= len(l.own))
			if a.Difference() != 0 || a.Unreadable > 0 {
				differing[name] = append(differing[name], i)
			}
			sum := sums[name]
			sum.add(&a)
			sums[name] = sum
		}
	}
	return sums, differing, nil
}

// accountOf reads a row of ledger.lua.
func accountOf(row []any, subscriber bool) Account {
	if len(row) != 15 {
		return Account{Subscriber: subscriber, Unreadable: 1}
	}
	a := Account{
		Unread: number(row[0]), Pending: number(row[1]), Parked: number(row[2]), Settled: number(row[3]),
		Dead: number(row[4]), Dropped: number(row[5]), Lost: number(row[6]), Base: number(row[7]),
		Appended: number(row[8]), Replayed: number(row[9]), Created: number(row[10]), Derived: number(row[11]) == 1,
		Again: number(row[12]), Subscriber: subscriber,
	}
	a.Alarm = Alarm{Lost: max(0, a.Lost-number(row[13])), Again: max(0, a.Again-number(row[14]))}
	if subscriber {
		a.Settled = max(0, a.Difference())
	}
	return a
}

// Acknowledge ends the alarm of a group: an operator knows of what it has lost and of what
// it has twice, up to now. It returns what the alarm was about. The counts stay.
func (l *Ledger) Acknowledge(ctx context.Context, group string) (Alarm, error) {
	if !slices.Contains(l.groups, group) {
		return Alarm{}, fmt.Errorf("%w: %q; the ledger has %s", ErrUnknownGroup, group, strings.Join(l.groups, ", "))
	}
	var sum Alarm
	var errs []error
	for i := range l.layout.Partitions() {
		reply, err := l.run.run(ctx, acknowledgeScript, []string{l.layout.Counts(i, group), l.layout.Trim(i)}, group)
		if err != nil {
			errs = append(errs, fmt.Errorf("streams: acknowledge partition %d: %w", i, err))
			continue
		}
		sum.Lost += number(at(reply, 0))
		sum.Again += number(at(reply, 1))
	}
	return sum, errors.Join(errs...)
}

// ledgerEvery is how often a Ledger looks.
const ledgerEvery = 10 * time.Second

// Run shows the accounts as metrics until ctx ends, and how far every group has come,
// whoever reads it. It logs a difference, and an alarm, when it begins and when it ends.
func (l *Ledger) Run(ctx context.Context) error {
	tick := time.NewTicker(ledgerEvery)
	defer tick.Stop()
	type trouble struct{ difference, unreadable int64 }
	told, rung := map[string]trouble{}, map[string]Alarm{}
	stats := NewStats(l.run.rdb, l.layout)
	for {
		if report, err := stats.Read(ctx); err == nil {
			l.m.show(&report)
			l.m.undecodable.WithLabelValues().Set(float64(report.Undecodable))
		}
		accounts, differing, err := l.read(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
			l.log.Error("read the ledger", "err", err)
		}
		for name, a := range accounts {
			l.m.set(name, &a)
			now := trouble{a.Difference(), a.Unreadable}
			switch {
			case now == told[name]:
			case now == trouble{}:
				l.log.Info("the ledger adds up again", "group", name)
			case now.unreadable > 0:
				l.log.Error("the ledger cannot be read: a key is of another type", "group", name, "difference", now.difference, "partitions", differing[name])
			default:
				l.log.Error("the ledger does not add up: appended and base differ from what is unread, pending, parked, settled, dead, dropped and lost",
					"group", name, "difference", now.difference, "partitions", differing[name])
			}
			told[name] = now
			switch a.Alarm {
			case rung[name]:
			case Alarm{}:
				l.log.Info("an operator has acknowledged what the ledger found", "group", name)
			default:
				l.log.Error("the ledger has found events that are lost, or there twice: see to it, then paybell ledger acknowledge",
					"group", name, "lost", a.Alarm.Lost, "again", a.Alarm.Again)
			}
			rung[name] = a.Alarm
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

type ledgerMetrics struct {
	events     *prometheus.GaugeVec
	difference *prometheus.GaugeVec
	alarm      *prometheus.GaugeVec
	unreadable *prometheus.GaugeVec
	// undecodable is of no group. It has no labels and is a vector all the same, so that it
	// is not shown as 0, which would then seem to rise, before it was read.
	undecodable *prometheus.GaugeVec
	// These are of every group there is.
	lag, pending, oldest *prometheus.GaugeVec
	entries              *prometheus.GaugeVec
}

// maxShown is how many groups are shown: anybody may create one.
const maxShown = 100

func newLedgerMetrics(reg prometheus.Registerer) *ledgerMetrics {
	return &ledgerMetrics{
		events: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_ledger_events",
			Help: "Events of a group by state, and those appended; base is what the group was given again, again the part of it that nobody accounts for.",
		}, []string{"group", "state"})),
		difference: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_ledger_difference",
			Help: "Events of a group that are in no state, or, below zero, in two. Anything but 0 that lasts is an alarm.",
		}, []string{"group"})),
		alarm: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_ledger_alarm",
			Help: "Events of a group that were found lost, or there twice (again), and that no operator has acknowledged.",
		}, []string{"group", "found"})),
		entries: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_streams_partition_entries",
			Help: "Entries that a partition holds.",
		}, []string{"partition"})),
		unreadable: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_ledger_unreadable_partitions",
			Help: "Partitions in which the account of a group cannot be read, because a key is of another type.",
		}, []string{"group"})),
		undecodable: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_ledger_undecodable_events",
			Help: "Events ever appended that stand for an authentic callback which could not be decoded: answered with success and applied to nothing.",
		}, nil)),
		lag: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_streams_group_lag_entries",
			Help: "Entries that were not delivered to a group yet; where there are very many, the least it is.",
		}, []string{"group"})),
		pending: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_streams_group_pending_entries",
			Help: "Entries that were delivered to a group and are not acknowledged.",
		}, []string{"group"})),
		oldest: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_streams_group_oldest_pending_seconds",
			Help: "Age of a group's oldest pending entry since it was appended; 0 without one.",
		}, []string{"group"})),
	}
}

// show shows every group there is, and none that is gone, and every partition.
func (m *ledgerMetrics) show(report *Report) {
	groups := report.Groups
	for i := range report.Partitions {
		m.entries.WithLabelValues(strconv.Itoa(i)).Set(float64(report.Partitions[i].Entries))
	}
	for _, vec := range []*prometheus.GaugeVec{m.lag, m.pending, m.oldest} {
		vec.Reset()
	}
	for i := range groups[:min(len(groups), maxShown)] {
		g := &groups[i]
		m.lag.WithLabelValues(g.Group).Set(float64(g.Lag))
		m.pending.WithLabelValues(g.Group).Set(float64(g.Pending))
		m.oldest.WithLabelValues(g.Group).Set(g.OldestPending.Seconds())
	}
}

func (m *ledgerMetrics) set(group string, a *Account) {
	for state, n := range map[string]int64{
		"appended": a.Appended, "base": a.Base, "unread": a.Unread, "pending": a.Pending, "parked": a.Parked,
		"settled": a.Settled, "dead": a.Dead, "dropped": a.Dropped, "lost": a.Lost, "again": a.Again, "replayed": a.Replayed,
	} {
		m.events.WithLabelValues(group, state).Set(float64(n))
	}
	m.difference.WithLabelValues(group).Set(float64(a.Difference()))
	m.alarm.WithLabelValues(group, "lost").Set(float64(a.Alarm.Lost))
	m.alarm.WithLabelValues(group, "again").Set(float64(a.Alarm.Again))
	m.unreadable.WithLabelValues(group).Set(float64(a.Unreadable))
}
