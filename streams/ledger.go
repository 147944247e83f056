package streams

import (
	"context"
	"errors"
	"log/slog"
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
	// Replayed is how many dead letters were delivered once more; they are in one of
	// the states above. Created is how often the group was created in a partition.
	Replayed int64 `json:"replayed"`
	Created  int64 `json:"created"`
	// Derived: in some partition there was too much unread to count, and Unread is what
	// the equation leaves there.
	Derived bool `json:"derived,omitempty"`
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
	a.Replayed += b.Replayed
	a.Created += b.Created
	a.Derived = a.Derived || b.Derived
}

// Ledger reads the accounts of the groups that this installation runs itself. A
// service that acknowledges its entries by itself has none.
type Ledger struct {
	run    runner
	layout Layout
	groups []string
	log    *slog.Logger
	m      *ledgerMetrics
}

// NewLedger returns a reader of the groups' accounts.
func NewLedger(rdb Client, layout Layout, groups []string, log *slog.Logger, reg prometheus.Registerer) *Ledger {
	return &Ledger{run: runner{rdb: rdb}, layout: layout, groups: groups, log: log, m: newLedgerMetrics(reg)}
}

// Read adds up every group's account over the partitions, each of which is read at one
// moment. A group that is not there yet is left out.
func (l *Ledger) Read(ctx context.Context) (map[string]Account, error) {
	accounts, _, err := readAccounts(ctx, &l.run, l.layout, l.groups)
	return accounts, err
}

// readAccounts also returns the partitions of each group whose accounts do not add up.
func readAccounts(ctx context.Context, run *runner, layout Layout, groups []string) (map[string]Account, map[string][]int, error) {
	sums, differing := make(map[string]Account, len(groups)), map[string][]int{}
	for i := range layout.Partitions() {
		keys, args := []string{layout.Events(i), layout.Ledger(i)}, make([]any, 0, len(groups))
		for _, name := range groups {
			keys = append(keys, layout.Counts(i, name), layout.Parked(i, name), layout.Dead(i, name))
			args = append(args, name)
		}
		reply, err := run.run(ctx, ledgerScript, keys, args...)
		if err != nil {
			return nil, nil, err
		}
		for n, name := range groups {
			row, _ := at(reply, n).([]any) // the script answers lists
			if len(row) != 11 {
				continue
			}
			a := Account{
				Unread: number(row[0]), Pending: number(row[1]), Parked: number(row[2]), Settled: number(row[3]),
				Dead: number(row[4]), Dropped: number(row[5]), Lost: number(row[6]), Base: number(row[7]),
				Appended: number(row[8]), Replayed: number(row[9]), Created: number(row[10]),
			}
			if a.Unread < 0 {
				a.Unread, a.Derived = 0, true
				a.Unread = max(0, a.Difference())
			}
			if a.Difference() != 0 {
				differing[name] = append(differing[name], i)
			}
			sum := sums[name]
			sum.add(&a)
			sums[name] = sum
		}
	}
	return sums, differing, nil
}

// ledgerEvery is how often a Ledger looks.
const ledgerEvery = 10 * time.Second

// Run shows the accounts as metrics until ctx ends, and logs a difference when it
// begins and when it ends.
func (l *Ledger) Run(ctx context.Context) error {
	tick := time.NewTicker(ledgerEvery)
	defer tick.Stop()
	told := map[string]int64{}
	for {
		accounts, differing, err := readAccounts(ctx, &l.run, l.layout, l.groups)
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
			l.log.Error("read the ledger", "err", err)
		}
		for name, a := range accounts {
			l.m.set(name, &a)
			if d := a.Difference(); d != told[name] {
				l.log.Error("the ledger does not add up: appended and base differ from what is unread, pending, parked, settled, dead, dropped and lost",
					"group", name, "difference", d, "partitions", differing[name])
				told[name] = d
			}
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
}

func newLedgerMetrics(reg prometheus.Registerer) *ledgerMetrics {
	return &ledgerMetrics{
		events: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_ledger_events",
			Help: "Events of a group by state, and those appended; base is what the group was given again.",
		}, []string{"group", "state"})),
		difference: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "paybell_ledger_difference",
			Help: "Events of a group that are in no state, or, below zero, in two. Anything but 0 that lasts is an alarm.",
		}, []string{"group"})),
	}
}

func (m *ledgerMetrics) set(group string, a *Account) {
	for state, n := range map[string]int64{
		"appended": a.Appended, "base": a.Base, "unread": a.Unread, "pending": a.Pending, "parked": a.Parked,
		"settled": a.Settled, "dead": a.Dead, "dropped": a.Dropped, "lost": a.Lost, "replayed": a.Replayed,
	} {
		m.events.WithLabelValues(group, state).Set(float64(n))
	}
	m.difference.WithLabelValues(group).Set(float64(a.Difference()))
}
