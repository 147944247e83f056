package main

import (
	"context"
	"slices"

	"github.com/paybell/paybell/loadtest/bench/callbacks"
)

// measure is one comparison; the rows of the table are taken from its rounds.
type measure struct {
	name string
	rows []row
	// take makes the targets, in the order of a round.
	take func(*bench) []target
	// rounds bounds the rounds of a measure that takes long.
	rounds int
	// still measures have no room for a kill.
	still bool
}

// row is one line of the table of targets: a figure, or the ratio of two targets'.
type row struct {
	id, what string
	value    string
	over     string
	// under is empty for a figure that stands alone.
	under string
	aim   string
}

// names are the numbers that a measure has rows of.
func (m measure) names() []string {
	var out []string
	for _, r := range m.rows {
		if !slices.Contains(out, r.id) {
			out = append(out, r.id)
		}
	}
	return out
}

// targets are those that the rows that were asked for need.
func (m measure) targets(b *bench) []target {
	needed := map[string]bool{}
	for _, r := range m.rows {
		if len(b.only) == 0 || b.only[r.id] {
			needed[r.over], needed[r.over+beside], needed[r.under] = true, true, true
		}
	}
	return slices.DeleteFunc(m.take(b), func(t target) bool { return !needed[t.name] })
}

// beside ends the names of what the second binary does.
const beside = " (beside)"

// both makes a target of each binary.
func (b *bench) both(name string, take func(ctx context.Context, paybell string) (values, error)) []target {
	out := []target{{name, func(ctx context.Context) (values, error) { return take(ctx, b.paybell) }}}
	if b.beside != "" {
		out = append(out, target{name + beside, func(ctx context.Context) (values, error) { return take(ctx, b.beside) }})
	}
	return out
}

// The names of targets.
const (
	limit3         = "limit: HMAC and JSON, stores nothing"
	xaddEverysec   = "limit: one XADD, everysec"
	xaddAlways     = "limit: one XADD, always"
	limitAlipay    = "limit: Alipay form, stores nothing"
	limitWeChat    = "limit: WeChat v3, stores nothing"
	limitDrain     = "limit: XACK in pipelines"
	limitPostgres  = "limit: batched upsert, PostgreSQL"
	limitSQLite    = "limit: batched upsert, SQLite"
	everysec       = "paybell, everysec"
	always         = "paybell, always"
	paybellAlipay  = "paybell, Alipay form"
	paybellWeChat  = "paybell, WeChat v3"
	paybellNoop    = "no-op handler"
	statusPostgres = "orderstatus, PostgreSQL"
	statusSQLite   = "orderstatus, SQLite"
	threePostgres  = "all three groups, PostgreSQL"
	threeSQLite    = "all three groups, SQLite"
	settling       = "all three groups while callbacks arrive"
	bytesAndRSS    = "bytes and memory"
	embedded       = "embedded default"
	lowAndFull     = "200/s and full drain"
)

// measures is S1 to S11. A ratio is at least or at most what its aim says.
var measures = []measure{
	{
		name: "callbacks",
		rows: []row{
			{"S1", "HMAC callback, everysec, to limit 3: throughput", valueRate, everysec, limit3, "≥ 0.80"},
			{"S1", "the same: server CPU", valueServer, everysec, limit3, "≤ 1.1"},
			{"S2", "HMAC callback, always, to limit 3: throughput", valueRate, always, limit3, "≥ 0.60"},
			{"S5", "Redis CPU of a callback to one plain XADD, everysec", valueRedis, everysec, xaddEverysec, "≤ 1.2"},
		},
		take: func(b *bench) []target {
			return slices.Concat(
				[]target{b.limit(limit3, door{account: callbacks.Stripe}), b.limit(xaddEverysec, door{account: callbacks.Stripe, fsync: "everysec"})},
				b.doors(everysec, door{account: callbacks.Stripe, fsync: "everysec"}),
				b.doors(always, door{account: callbacks.Stripe, fsync: "always"}))
		},
	},
	{
		name: "RSA",
		rows: []row{
			{"S3", "Alipay form, everysec, to the verification alone", valueRate, paybellAlipay, limitAlipay, "≥ 0.9"},
			{"S3", "WeChat v3, everysec, to the verification alone", valueRate, paybellWeChat, limitWeChat, "≥ 0.9"},
		},
		take: func(b *bench) []target {
			return slices.Concat(
				[]target{b.limit(limitAlipay, door{account: callbacks.Alipay})},
				b.doors(paybellAlipay, door{account: callbacks.Alipay, fsync: "everysec"}),
				[]target{b.limit(limitWeChat, door{account: callbacks.WeChat})},
				b.doors(paybellWeChat, door{account: callbacks.WeChat, fsync: "everysec"}))
		},
	},
	{
		name: "constant rate",
		rows: []row{
			{"S4", "p50 of the reply at 2,000/s, everysec, to one XADD", valueP50, everysec, xaddEverysec, "≤ 1.2"},
			{"S4", "p99 of the reply at 2,000/s, everysec, to one XADD", valueP99, everysec, xaddEverysec, "≤ 1.2"},
			{"S4", "p50 of the reply at 2,000/s, always, to one XADD", valueP50, always, xaddAlways, "≤ 1.2"},
			{"S4", "p99 of the reply at 2,000/s, always, to one XADD", valueP99, always, xaddAlways, "≤ 1.2"},
		},
		take: func(b *bench) []target {
			return slices.Concat(
				[]target{b.limit(xaddEverysec, door{account: callbacks.Stripe, fsync: "everysec", rate: 2000})},
				b.doors(everysec, door{account: callbacks.Stripe, fsync: "everysec", rate: 2000}),
				[]target{b.limit(xaddAlways, door{account: callbacks.Stripe, fsync: "always", rate: 2000})},
				b.doors(always, door{account: callbacks.Stripe, fsync: "always", rate: 2000}))
		},
	},
	{
		name: "drain",
		rows: []row{
			{"S6", "drain with a no-op handler, to XACK in pipelines", valueRate, paybellNoop, limitDrain, "≥ 0.50"},
		},
		take: func(b *bench) []target {
			return []target{b.drainLimit(limitDrain, ""), b.noopTarget()}
		},
	},
	{
		name: "settle",
		rows: []row{
			{"S7", "orderstatus to the batched upsert, PostgreSQL", valueRate, statusPostgres, limitPostgres, "≥ 0.5"},
			{"S7", "orderstatus to the batched upsert, SQLite", valueRate, statusSQLite, limitSQLite, "≥ 0.4"},
			{"S7", "deliveries of all three groups to the upsert, PostgreSQL", valueRate, threePostgres, limitPostgres, "≥ 0.5"},
			{"S7", "deliveries of all three groups to the upsert, SQLite", valueRate, threeSQLite, limitSQLite, "≥ 0.4"},
		},
		take: func(b *bench) []target {
			return slices.Concat(
				[]target{b.drainLimit(limitPostgres, "postgres")},
				b.workers(statusPostgres, "postgres", "orderstatus"), b.workers(threePostgres, "postgres", allGroups...),
				[]target{b.drainLimit(limitSQLite, "sqlite")},
				b.workers(statusSQLite, "sqlite", "orderstatus"), b.workers(threeSQLite, "sqlite", allGroups...))
		},
	},
	{
		name: "keeping up",
		rows: []row{
			{"S8", "highest rate at which reply-to-settled p99 ≤ 250 ms, PostgreSQL", valueHighest, settling, "", "≥ 4,000"},
		},
		take:   func(b *bench) []target { return b.both(settling, b.climb) },
		rounds: 3,
	},
	{
		name: "memory",
		rows: []row{
			{"S9", "Redis bytes of a stored event over its body, Stripe", valueStripe, bytesAndRSS, "", "≤ 1.7"},
			{"S9", "the same, Alipay", valueAlipay, bytesAndRSS, "", ""},
			{"S9", "the same, WeChat", valueWeChat, bytesAndRSS, "", ""},
			{"S9", "Redis bytes of a remembered id", valueID, bytesAndRSS, "", "≤ 28"},
			{"S9", "gateway MiB at 1 connection", valueDoor1, bytesAndRSS, "", "flat or linear"},
			{"S9", "gateway MiB at 64 connections", valueDoor64, bytesAndRSS, "", "flat or linear"},
			{"S9", "gateway MiB at 1,024 connections", valueDoor1024, bytesAndRSS, "", "flat or linear"},
			{"S9", "worker MiB, most, while draining 1 partition", valueWorker1, bytesAndRSS, "", "≤ 150"},
			{"S9", "worker MiB, most, while draining 16 partitions", valueWorker16, bytesAndRSS, "", "≤ 150"},
			{"S9", "worker MiB, most, while draining 64 partitions", valueWorker64, bytesAndRSS, "", "≤ 150"},
		},
		take:   func(b *bench) []target { return b.both(bytesAndRSS, b.memory) },
		rounds: 1,
		still:  true,
	},
	{
		name: "embedded",
		rows: []row{
			{"S10", "embedded default, accepted and settled a second", valueRate, embedded, "", "≥ 2,000"},
		},
		take: func(b *bench) []target { return b.both(embedded, b.embedded) },
	},
	{
		name: "low rate",
		rows: []row{
			{"S11", "CPU of an event at 200/s to the same at full speed, both with its append", valueTimes, lowAndFull, "", "≤ 2.5"},
			{"S11", "the same, at full speed the drain alone", valueTimesDrain, lowAndFull, "", ""},
		},
		take:   func(b *bench) []target { return b.both(lowAndFull, b.lowAndFull) },
		rounds: 3,
	},
}
