package event

import (
	"maps"
	"slices"
	"strings"
)

// Bounds of one order's sets. They are far above what honest orders have.
const (
	maxAccounts   = 8   // accounts that sell one order
	maxParts      = 128 // attempts, captures, refunds, disputes and totals, each, of an account
	maxTold       = 16  // different things told of one refund or dispute
	maxCurrencies = 4   // currencies of one order or part
	maxAmounts    = 4   // different amounts of one capture
	maxCustomers  = 4   // customers of one order
	maxWords      = 4   // reasons to close an attempt
	maxUnreadable = 8   // kinds of references that could not be read
)

// state is the tuple of an order. stored is its JSON.
type state struct {
	// Closed holds the words in which providers closed an attempt.
	Closed firsts `json:"closed,omitempty"`
	Final  bool   `json:"final,omitempty"`
	// Customers and Currencies hold every customer named and every currency captured.
	Customers  firsts `json:"customers,omitempty"`
	Currencies firsts `json:"currencies,omitempty"`
	// Accounts keeps what each account told: references are unique per account.
	Accounts map[string]*ledger `json:"accounts,omitempty"`
	// Unnamed is what a version told that did not keep which attempt it was told of.
	Unnamed attempt `json:"unnamed,omitzero"`
	// Unreadable names the references that some event held and nobody could read.
	Unreadable []string `json:"unreadable,omitempty"`
	// Capped: some set was full. Negative: some amount was below zero.
	Capped   bool `json:"capped,omitempty"`
	Negative bool `json:"negative,omitempty"`
}

// ledger is what one account told of the order. Payments go by the provider's
// reference; "" is a payment, or all of them, without one.
type ledger struct {
	// Attempts maps a payment to how far it came, but for the money.
	Attempts map[string]attempt `json:"attempts,omitempty"`
	// Captures maps a payment to the amounts told of it, by currency, largest first;
	// none while no amount is known.
	Captures map[string]amounts `json:"captures,omitempty"`
	// CapturedTotals maps a payment to the largest total told.
	CapturedTotals map[string]totals `json:"captured_totals,omitempty"`
	// RefundedTotals maps a payment to every total told. The largest alone would not
	// do: a refund that fails later leaves the totals it was counted in.
	RefundedTotals map[string]series `json:"refunded,omitempty"`
	// Refunds and Disputes map each to all that was told of it, most telling first.
	Refunds  map[string][]told `json:"refunds,omitempty"`
	Disputes map[string][]told `json:"disputes,omitempty"`
	// RefundOf and DisputeOf map each to the payment it is about. There is one, unless a
	// provider contradicts itself: then the first by name counts.
	RefundOf  map[string][]string `json:"refund_of,omitempty"`
	DisputeOf map[string][]string `json:"dispute_of,omitempty"`
	// Related maps a payment to other names of the same one.
	Related map[string][]string `json:"related,omitempty"`
	// Elsewhere lists payments whose points belong to another order that claims them.
	Elsewhere []string `json:"elsewhere,omitempty"`
}

// amounts are different amounts by currency, totals the largest amount by currency,
// and series every amount, by currency, with the latest moment it was told at. An
// amount never changes, it is only replaced: orders may share it.
type (
	amounts map[string][]amount
	totals  map[string]*amount
	series  map[string]map[amount]moment
)

func (s *state) join(other *state) growth {
	var g, h growth
	g |= s.Closed.join(other.Closed, maxWords)
	g |= s.Customers.join(other.Customers, maxCustomers)
	g |= s.Currencies.join(other.Currencies, maxCurrencies)
	s.Accounts, h = joinMap(s.Accounts, other.Accounts, maxAccounts, joinLedger)
	g |= h
	s.Unnamed, h = joinAttempt(s.Unnamed, other.Unnamed)
	g |= h
	s.Unreadable, h = joinSet(s.Unreadable, other.Unreadable, maxUnreadable, strings.Compare)
	g |= h
	g |= raise(&s.Final, other.Final)
	g |= raise(&s.Negative, other.Negative)
	g |= raise(&s.Capped, other.Capped || g&dropped != 0)
	return g
}

// chosen is what was chosen by the time of events.
func (s *state) chosen() [3]string {
	return [3]string{s.Customers.first(), s.Currencies.first(), s.Closed.first()}
}

// raise sets a flag that never goes down.
func raise(flag *bool, to bool) growth {
	if !to || *flag {
		return 0
	}
	*flag = true
	return grew
}

func joinLedger(a, b *ledger) (*ledger, growth) {
	if a == nil {
		a = &ledger{}
	}
	if b == nil {
		return a, 0
	}
	var g, h growth
	a.Attempts, h = joinMap(a.Attempts, b.Attempts, maxParts, joinAttempt)
	g |= h
	a.Captures, h = joinMap(a.Captures, b.Captures, maxParts, joinAmounts)
	g |= h
	a.CapturedTotals, h = joinMap(a.CapturedTotals, b.CapturedTotals, maxParts, joinTotals)
	g |= h
	a.RefundedTotals, h = joinMap(a.RefundedTotals, b.RefundedTotals, maxParts, joinSeries)
	g |= h
	a.Refunds, h = joinMap(a.Refunds, b.Refunds, maxParts, joinTold)
	g |= h
	a.Disputes, h = joinMap(a.Disputes, b.Disputes, maxParts, joinTold)
	g |= h
	a.RefundOf, h = joinMap(a.RefundOf, b.RefundOf, maxParts, joinNames)
	g |= h
	a.DisputeOf, h = joinMap(a.DisputeOf, b.DisputeOf, maxParts, joinNames)
	g |= h
	a.Related, h = joinMap(a.Related, b.Related, maxParts, joinNames)
	g |= h
	a.Elsewhere, h = joinNames(a.Elsewhere, b.Elsewhere)
	return a, g | h
}

func joinAmounts(a, b amounts) (amounts, growth) {
	if a == nil {
		a = amounts{}
	}
	return joinMap(a, b, maxCurrencies, func(x, y []amount) ([]amount, growth) {
		return joinSet(x, y, maxAmounts, func(v, w amount) int { return w.compare(v) })
	})
}

func joinTotals(a, b totals) (totals, growth) {
	if a == nil {
		a = totals{}
	}
	return joinMap(a, b, maxCurrencies, func(x, y *amount) (*amount, growth) {
		switch {
		case x == nil && y == nil:
			return &amount{}, 0
		case y == nil || x != nil && x.compare(*y) >= 0:
			return x, 0
		}
		return y, grew
	})
}

func joinSeries(a, b series) (series, growth) {
	if a == nil {
		a = series{}
	}
	return joinMap(a, b, maxCurrencies, func(x, y map[amount]moment) (map[amount]moment, growth) {
		if x == nil {
			x = map[amount]moment{}
		}
		var g growth
		for a, at := range y {
			old, known := x[a]
			switch {
			case !known:
				g |= grew
			case at > old:
				g |= moved
			default:
				continue
			}
			x[a] = at
		}
		return x, g | cutSeries(x)
	})
}

// cutSeries keeps the largest totals: those that are left were so at every step before.
func cutSeries(s map[amount]moment) growth {
	var g growth
	for len(s) > maxParts {
		var least amount
		first := true
		for a := range s {
			if first || a.compare(least) < 0 {
				least, first = a, false
			}
		}
		delete(s, least)
		g = dropped
	}
	return g
}

func joinTold(a, b []told) ([]told, growth) { return joinSet(a, b, maxTold, told.compare) }

func joinNames(a, b []string) ([]string, growth) { return joinSet(a, b, maxParts, strings.Compare) }

func (s *state) paidBy() []string {
	var accounts []string
	for _, name := range slices.Sorted(maps.Keys(s.Accounts)) {
		if l := s.Accounts[name]; len(l.Captures) > 0 || len(l.CapturedTotals) > 0 {
			accounts = append(accounts, name)
		}
	}
	return accounts
}
