package event_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/paybell/paybell/streams/event"
)

// rowsBefore are stored orders as revision 9a7ea0d wrote them, by the name of what
// they had been told.
func rowsBefore(t *testing.T) map[string]*event.Order {
	t.Helper()
	text, err := os.ReadFile("testdata/orders-9a7ea0d.txt")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]*event.Order{}
	for line := range strings.Lines(string(text)) {
		name, row, _ := strings.Cut(strings.TrimSpace(line), "\t")
		o := new(event.Order)
		if err := json.Unmarshal([]byte(row), o); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rows[name] = o
	}
	return rows
}

// TestOrdersOfTheReleaseBefore reads rows that it wrote, and goes on from there.
func TestOrdersOfTheReleaseBefore(t *testing.T) {
	rows := rowsBefore(t)
	for name, want := range map[string]seen{
		"nothing":                    {status: event.StatusUnknown},
		"pending":                    {status: event.StatusPending},
		"pending at an unknown time": {status: event.StatusPending},
		"failed":                     {status: event.StatusFailed},
		"tried again":                {status: event.StatusPending},
		"authorized":                 {status: event.StatusAuthorized},
		"closed":                     {status: event.StatusClosed},
		"paid":                       {event.StatusPaid, "100", "0", "0", "", 100},
		"closed, then paid":          {event.StatusPaid, "100", "0", "0", "", 100},
		"paid, then closed":          {event.StatusPaid, "100", "0", "0", "paid_and_closed", 100},
		"paid twice":                 {event.StatusPaid, "200", "0", "0", "double_payment", 200},
		"refunded by a total":        {event.StatusRefunded, "100", "100", "0", "", 0},
		"refunded and failed":        {event.StatusPaid, "100", "0", "0", "", 100},
		"refunded in parts":          {event.StatusPartiallyRefunded, "100", "50", "0", "", 50},
		"lost in part":               {event.StatusPartiallyRefunded, "100", "0", "40", "", 60},
		"disputed":                   {event.StatusDisputed, "100", "0", "0", "", 100},
		"two accounts":               {event.StatusPaid, "200", "0", "0", "double_payment", 200},
	} {
		t.Run(name, func(t *testing.T) {
			o := rows[name]
			if o == nil {
				t.Fatal("there is no such row")
			}
			want.check(t, o)
			stored := new(event.Order)
			if err := json.Unmarshal([]byte(state(t, o)), stored); err != nil {
				t.Fatal(err)
			}
			same(t, "stored again", stored, o)
		})
	}
	for _, tc := range []struct {
		name, row string
		tell      func(s *story)
		want      seen
	}{
		{"a second attempt after a closed one", "closed", func(s *story) {
			s.add(event.PaymentAuthorized, payment("pay_2"), at(9))
		}, seen{status: event.StatusAuthorized}},
		{"what was under way is closed", "pending", func(s *story) {
			s.add(event.PaymentClosed, at(9))
		}, seen{status: event.StatusClosed}},
		{"what was under way at an unknown time is closed", "pending at an unknown time", func(s *story) {
			s.add(event.PaymentClosed, at(9))
		}, seen{status: event.StatusClosed}},
		{"what was authorized is closed", "authorized", func(s *story) {
			s.add(event.PaymentClosed, at(9))
		}, seen{status: event.StatusClosed}},
		{"what was tried again is closed", "tried again", func(s *story) {
			s.add(event.PaymentClosed, at(9))
		}, seen{status: event.StatusClosed}},
		{"a refund fails that a total had counted", "refunded by a total", func(s *story) {
			s.add100(event.RefundFailed, at(9))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
		{"the refund of a payment paid twice", "paid twice", func(s *story) {
			s.add100(event.RefundSucceeded, payment("pay_2"), at(9))
		}, seen{event.StatusPartiallyRefunded, "200", "100", "0", "", 100}},
		{"a refund told again, now with its payment", "refunded in parts", func(s *story) {
			s.add(event.RefundSucceeded, s.amount("30", "CNY"), at(1))
		}, seen{event.StatusPartiallyRefunded, "100", "50", "0", "", 50}},
		{"the payment", "authorized", func(s *story) {
			s.add100(event.PaymentSucceeded, at(9))
		}, seen{event.StatusPaid, "100", "0", "0", "", 100}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := rowsBefore(t)[tc.row]
			s := tell(t)
			tc.tell(s)
			for i := range s.events {
				o.Apply(&s.events[i])
			}
			tc.want.check(t, o)
		})
	}
}

// TestTheReleaseBeforeReadsOrders looks at a stored order as revision 9a7ea0d does,
// which may run beside this one: by the members it knows, and no others.
func TestTheReleaseBeforeReadsOrders(t *testing.T) {
	s := tell(t)
	s.add(event.PaymentPending).add(event.PaymentFailed).add(event.PaymentAuthorized, payment("pay_2")).add(event.PaymentClosed)
	s.add(event.RefundSucceeded, refund(""), s.refunded("20")).add(event.RefundSucceeded, refund(""), s.refunded("50"))
	var before struct {
		Version     int            `json:"v"`
		Stage       string         `json:"stage"`
		LastPending map[string]any `json:"last_pending"`
		LastFailure map[string]any `json:"last_failure"`
		Closed      map[string]any `json:"closed"`
		Accounts    map[string]struct {
			RefundedTotals map[string]map[string]string `json:"refunded_totals"`
		} `json:"accounts"`
	}
	o := s.order()
	if err := json.Unmarshal([]byte(state(t, o)), &before); err != nil {
		t.Fatal(err)
	}
	minute := func(n int) float64 { return float64(s.events[n].OccurredAt.UnixMilli()) }
	if before.Version != 1 || before.Stage != "authorized" || before.LastPending["at_ms"] != minute(0) ||
		before.LastFailure["at_ms"] != minute(1) || len(before.Closed) != 1 ||
		before.Accounts["main"].RefundedTotals["pay_1"]["CNY"] != "50" {
		t.Errorf("it reads %+v", before)
	}
	s.add100(event.PaymentSucceeded)
	if err := json.Unmarshal([]byte(state(t, fold(s.events...))), &before); err != nil || before.Stage != "paid" {
		t.Errorf("stage %q, %v", before.Stage, err)
	}
}
