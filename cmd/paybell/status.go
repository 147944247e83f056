package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

// statusCmd shows what a running process knows.
type statusCmd struct {
	adminFlags

	Order string `help:"Show the orders with this reference instead."`
}

// Run implements the command.
func (s *statusCmd) Run(ctx context.Context, g *globals) error {
	client, err := s.client(g)
	if err != nil {
		return err
	}
	if s.Order != "" {
		return s.order(ctx, client)
	}
	var st admin.Status
	body, err := client.get(ctx, "/api/v1/status", nil, &st)
	if err != nil {
		return err
	}
	if s.Output == "json" {
		return printJSON(body)
	}
	return printStatus(&st)
}

// order shows every order with the reference; two namespaces may both have it.
func (s *statusCmd) order(ctx context.Context, client *adminClient) error {
	var list struct {
		Orders []admin.Order `json:"orders"`
	}
	body, err := client.get(ctx, "/api/v1/orders", url.Values{"ref": {s.Order}}, &list)
	if err != nil {
		return err
	}
	if s.Output == "json" {
		return printJSON(body)
	}
	if len(list.Orders) == 0 {
		_, err := fmt.Fprintf(os.Stdout, "no order %s\n", s.Order)
		return err
	}
	var b strings.Builder
	addOrders(&b, list.Orders)
	return printTable(b.String())
}

func printStatus(st *admin.Status) error {
	var b strings.Builder
	fmt.Fprintf(&b, "paybell %s, up %s\n", st.Version, st.Now.Sub(st.StartedAt).Round(time.Second))
	if st.Gateway != nil {
		fmt.Fprintf(&b, "gateway   %s\n", either(st.Gateway.Ready, "ready", "NOT READY: "+st.Gateway.Why))
	}
	if st.Journal != nil {
		fmt.Fprintf(&b, "journal   %s, %d events, %d bytes\n", st.Journal.Mode, st.Journal.Events, st.Journal.Bytes)
	}
	if st.Redis != nil {
		fmt.Fprintf(&b, "redis     %s\n", either(st.Redis.Embedded, "embedded", st.Redis.Version+", a success reply means "+st.Redis.Level))
		for _, p := range st.Redis.Problems {
			fmt.Fprintf(&b, "          ! %s\n", p)
		}
	}
	for _, u := range st.Unavailable {
		fmt.Fprintf(&b, "%-9s DOES NOT ANSWER: %s\n", u.Part, u.Why)
	}
	if st.Undecodable != nil && *st.Undecodable > 0 {
		fmt.Fprintf(&b, "undecodable events: %d (kept, answered with success, not applied; see docs/operating.md)\n", *st.Undecodable)
	}
	if st.Streams != nil {
		fmt.Fprintf(&b, "\nGROUP\tUNREAD\tPENDING\tOLDEST\tPARKED\tDEAD\tLOST\tMEMBERS\n")
		for i := range st.Streams.Groups {
			addGroup(&b, &st.Streams.Groups[i], st.Paused)
		}
		fmt.Fprintf(&b, "%d entries in %d partitions\n", st.Streams.Entries, len(st.Streams.Partitions))
		for _, p := range st.Streams.Partitions {
			if p.Problem != "" {
				fmt.Fprintf(&b, "  ! partition %d: %s\n", p.Partition, oneLine(p.Problem))
			}
		}
	}
	addLedger(&b, st.Ledger)
	if len(st.Orders) > 0 {
		b.WriteString("\n")
		addOrders(&b, st.Orders)
	}
	if len(st.Accounts) > 0 {
		fmt.Fprintf(&b, "\nACCOUNT\tPROVIDER\tNAMESPACE\tDEDUP WINDOW\n")
		for _, a := range st.Accounts {
			fmt.Fprintf(&b, "%s\t%s\t%s\t%s\n", a.Name, a.Provider, a.Namespace, a.DedupWindow)
		}
	}
	return printTable(b.String())
}

// addGroup adds a group's line, and below it what is wrong with it.
func addGroup(b *strings.Builder, g *streams.GroupStats, paused map[string][]string) {
	fmt.Fprintf(b, "%s\t%d%s\t%d\t%s\t%d\t%d\t%d\t%d\n", g.Group, g.Lag, either(g.LagMin, "+", ""), g.Pending,
		either(g.Pending > 0, g.OldestPending.Round(time.Second).String(), "-"), g.Parked, g.Dead, g.Lost, g.Members)
	for _, text := range g.Problems {
		fmt.Fprintf(b, "  ! %s\n", oneLine(text))
	}
	if g.Overtaken > 0 {
		fmt.Fprintf(b, "  ! overtaken %d times: it is not declared, and was beyond the retention\n", g.Overtaken)
	}
	for _, text := range paused[g.Group] {
		fmt.Fprintf(b, "  ! this process pauses it: %s\n", oneLine(text))
	}
}

// addLedger adds where the events of the declared groups are.
func addLedger(b *strings.Builder, ledger map[string]admin.LedgerStatus) {
	if len(ledger) == 0 {
		return
	}
	fmt.Fprintf(b, "\nLEDGER\tAPPENDED\tBASE\tUNREAD\tPENDING\tPARKED\tSETTLED\tDEAD\tDROPPED\tLOST\tAGAIN\tDIFFERENCE\tREPLAYED\n")
	for _, name := range slices.Sorted(maps.Keys(ledger)) {
		a := ledger[name]
		fmt.Fprintf(b, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", name, a.Appended, a.Base, a.Unread, a.Pending, a.Parked,
			a.Settled, a.Dead, a.Dropped, a.Lost, a.Again, a.Difference, a.Replayed)
		if a.Alarm != (streams.Alarm{}) {
			fmt.Fprintf(b, "  ! %d lost and %d found twice: see docs/operating.md, then paybell ledger acknowledge %s\n", a.Alarm.Lost, a.Alarm.Again, name)
		}
		if a.Subscriber {
			b.WriteString("  acknowledges by itself: settled is what remains\n")
		}
		if a.Derived {
			b.WriteString("  too much is unread to be counted: unread is what remains\n")
		}
		if a.Unreadable > 0 {
			fmt.Fprintf(b, "  ! cannot be read in %d partitions: a key is of another type\n", a.Unreadable)
		}
	}
}

func addOrders(b *strings.Builder, orders []admin.Order) {
	fmt.Fprintf(b, "ORDER\tNAMESPACE\tSTATUS\tCAPTURED\tREFUNDED\tPOINTS\tUPDATED\n")
	for i := range orders {
		o := &orders[i]
		points := "-"
		if o.Points != nil {
			points = strconv.FormatInt(*o.Points, 10)
		}
		status := o.Status
		if len(o.Conflicts) > 0 {
			status += " (conflict: " + strings.Join(o.Conflicts, ", ") + ")"
		}
		fmt.Fprintf(b, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", oneLine(o.Ref), o.Namespace, status, amount(o.Captured), amount(o.Refunded), points,
			o.UpdatedAt.UTC().Format(time.DateTime))
	}
}

// printTable prints lines whose cells are apart by tabs.
func printTable(text string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	return w.Flush()
}

// printIndented prints an answer for reading.
func printIndented(body []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, body, "", "  "); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	_, err := fmt.Fprintln(os.Stdout, strings.TrimSpace(b.String()))
	return err
}

func amount(m *event.Money) string {
	if m == nil || m.Minor == 0 {
		return "-"
	}
	return m.String()
}

func either[T any](cond bool, yes, no T) T {
	if cond {
		return yes
	}
	return no
}

// oneLine keeps text that came from outside from breaking a table or a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
