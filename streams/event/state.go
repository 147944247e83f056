package event

import (
	"errors"
	"maps"
	"slices"
)

// Bounds of one order's sets. They are far above what honest orders have.
const (
	maxAccounts   = 8   // accounts that sell one order
	maxParts      = 128 // captures, refunds, disputes and totals, each, of an account
	maxTold       = 16  // different things told of one refund or dispute
	maxCurrencies = 4   // currencies of one order or part
	maxAmounts    = 4   // different amounts of one capture
	maxCustomers  = 4   // customers of one order
	maxWords      = 4   // reasons to close one order
	// maxCustomerLen bounds a customer reference; longer text is none.
	maxCustomerLen = 512
)

// state is the tuple of an order. Its JSON is stored in SQL: members may be added,
// never renamed, and orderVersion rises when old code must not read it.
type state struct {
	Version     int   `json:"v"`
	Stage       stage `json:"stage,omitempty"`
	LastPending *mark `json:"last_pending,omitempty"`
	LastFailure *mark `json:"last_failure,omitempty"`
	// Closed holds the words that closed the order.
	Closed firsts `json:"closed,omitempty"`
	Final  bool   `json:"final,omitempty"`
	// Customers and Currencies hold every customer named and every currency captured.
	Customers  firsts `json:"customers,omitempty"`
	Currencies firsts `json:"currencies,omitempty"`
	// Accounts keeps what each account told: references are unique per account.
	Accounts map[string]*ledger `json:"accounts,omitempty"`
	// Capped: some set was full. Negative: some amount was below zero.
	Capped   bool `json:"capped,omitempty"`
	Negative bool `json:"negative,omitempty"`
}

// ledger is what one account told of the order's money.
type ledger struct {
	// Captures maps a capture to the amounts told of it, by currency, largest
	// first; none while no amount is known.
	Captures map[string]amounts `json:"captures,omitempty"`
	// CapturedTotals and RefundedTotals map a payment to the largest total told.
	CapturedTotals map[string]totals `json:"captured_totals,omitempty"`
	RefundedTotals map[string]totals `json:"refunded_totals,omitempty"`
	// Refunds and Disputes map each to all that was told of it, most telling first.
	Refunds  map[string][]told `json:"refunds,omitempty"`
	Disputes map[string][]told `json:"disputes,omitempty"`
}

// amounts are different amounts by currency, totals the largest amount by
// currency. An amount never changes, it is only replaced: orders may share it.
type (
	amounts map[string][]amount
	totals  map[string]*amount
)

func (s *state) join(other *state) growth {
	var g growth
	if other.Stage > s.Stage {
		s.Stage = other.Stage
		g |= grew
	}
	var h growth
	s.LastPending, h = later(s.LastPending, other.LastPending)
	g |= s.whileOpen(h)
	s.LastFailure, h = later(s.LastFailure, other.LastFailure)
	g |= s.whileOpen(h)
	g |= s.Closed.join(other.Closed, maxWords)
	g |= s.Customers.join(other.Customers, maxCustomers)
	g |= s.Currencies.join(other.Currencies, maxCurrencies)
	s.Accounts, h = joinMap(s.Accounts, other.Accounts, maxAccounts, joinLedger)
	g |= h
	g |= raise(&s.Final, other.Final)
	g |= raise(&s.Negative, other.Negative)
	g |= raise(&s.Capped, other.Capped || g&dropped != 0)
	return g
}

// whileOpen says what a later pending or failure means: nothing new once the money
// is authorized, because no status looks at it any more.
func (s *state) whileOpen(g growth) growth {
	if g == grew && s.Stage >= stageAuthorized {
		return moved
	}
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
	a.Captures, h = joinMap(a.Captures, b.Captures, maxParts, joinAmounts)
	g |= h
	a.CapturedTotals, h = joinMap(a.CapturedTotals, b.CapturedTotals, maxParts, joinTotals)
	g |= h
	a.RefundedTotals, h = joinMap(a.RefundedTotals, b.RefundedTotals, maxParts, joinTotals)
	g |= h
	a.Refunds, h = joinMap(a.Refunds, b.Refunds, maxParts, joinTold)
	g |= h
	a.Disputes, h = joinMap(a.Disputes, b.Disputes, maxParts, joinTold)
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

func joinTold(a, b []told) ([]told, growth) { return joinSet(a, b, maxTold, told.compare) }

func (s *state) paidBy() []string {
	var accounts []string
	for _, name := range slices.Sorted(maps.Keys(s.Accounts)) {
		if l := s.Accounts[name]; len(l.Captures) > 0 || len(l.CapturedTotals) > 0 {
			accounts = append(accounts, name)
		}
	}
	return accounts
}

// errStage is wrapped in ErrOrder by Order.UnmarshalJSON.
var errStage = errors.New("unknown stage")

// stage is how far the payment has come.
type stage uint8

const (
	stageNone stage = iota
	stagePending
	stageAuthorized
	stagePaid
)

// String is the stage's name in an order's JSON.
func (s stage) String() string {
	switch s {
	case stagePending:
		return "pending"
	case stageAuthorized:
		return "authorized"
	case stagePaid:
		return "paid"
	default:
		return "none"
	}
}

// MarshalText implements encoding.TextMarshaler.
func (s stage) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *stage) UnmarshalText(text []byte) error {
	for known := stageNone; known <= stagePaid; known++ {
		if known.String() == string(text) {
			*s = known
			return nil
		}
	}
	return errStage
}
