package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// orderVersion is the version of an Order's JSON. It rises when older code must not
// read it; members may be added.
const orderVersion = 1

// stored is the JSON of an order. Beside the state it holds what the release before
// read and wrote instead, so that both can run on the same rows while a deployment
// rolls: the stage, and the latest pending and failure of the whole order. What that
// release does not know it drops from a row that it writes; the order then reads as
// that release saw it, until its next event.
type stored struct {
	Version     int   `json:"v"`
	Stage       stage `json:"stage,omitempty"`
	LastPending *mark `json:"last_pending,omitempty"`
	LastFailure *mark `json:"last_failure,omitempty"`
	state
}

// store returns the JSON form of a state.
func store(s state) stored {
	out := stored{Version: orderVersion, state: s}
	all := s.Unnamed
	for _, l := range s.Accounts {
		for _, a := range l.Attempts {
			all, _ = joinAttempt(all, a)
		}
	}
	switch {
	case s.paid():
		out.Stage = stagePaid
	case all.Authorized != 0:
		out.Stage = stageAuthorized
	case all.Pending != 0:
		out.Stage = stagePending
	}
	out.LastPending, out.LastFailure = markOf(all.Pending), markOf(all.Failed)
	return out
}

// load returns the state, in its one canonical form.
func (in *stored) load() state {
	if in.Unnamed == (attempt{}) && !in.namesAttempts() {
		in.Unnamed = in.unnamed()
	}
	var s state
	s.join(&in.state)
	return s
}

func (s *state) namesAttempts() bool {
	for l := range maps.Values(s.Accounts) {
		if l != nil && len(l.Attempts) > 0 {
			return true
		}
	}
	return false
}

// unnamed is what a row of the release before says of attempts, of which it did not
// keep the names.
func (in *stored) unnamed() attempt {
	a := attempt{Pending: momentOf(in.LastPending), Failed: momentOf(in.LastFailure)}
	switch in.Stage {
	case stageAuthorized:
		a.Authorized = unknownMoment
	case stagePending:
		a.Pending = max(a.Pending, unknownMoment)
	}
	for at := range maps.Values(in.Closed) {
		a.Closed = latest(a.Closed, max(momentOf(at), unknownMoment))
	}
	return a
}

func markOf(m moment) *mark {
	switch m {
	case 0:
		return nil
	case unknownMoment:
		return &mark{}
	default:
		return &mark{At: int64(m)}
	}
}

func momentOf(m *mark) moment {
	if m == nil {
		return 0
	}
	return max(moment(m.At), unknownMoment)
}

// MarshalJSON implements json.Marshaler. Equal orders have equal JSON. Store it as
// text: a JSON column of a database may write it differently.
func (o Order) MarshalJSON() ([]byte, error) {
	out := store(o.s)
	return out.appendJSON(make([]byte, 0, 512)), nil
}

// UnmarshalJSON implements json.Unmarshaler. It replaces o.
func (o *Order) UnmarshalJSON(text []byte) error {
	var in stored
	if err := json.Unmarshal(text, &in); err != nil {
		return fmt.Errorf("%w: %w", ErrOrder, err)
	}
	if in.Version > orderVersion || in.Version < 0 {
		return fmt.Errorf("%w: version %d", ErrOrder, in.Version)
	}
	*o = Order{s: in.load()}
	return nil
}

// plainLedger is a ledger without its methods.
type plainLedger ledger

// storedLedger is the JSON of a ledger. LargestRefundedTotals is what the release
// before read and wrote.
type storedLedger struct {
	*plainLedger
	LargestRefundedTotals map[string]totals `json:"refunded_totals,omitempty"`
}

// largestRefundedTotals are the largest totals told of each payment.
func (l *ledger) largestRefundedTotals() map[string]totals {
	if len(l.RefundedTotals) == 0 {
		return nil
	}
	out := make(map[string]totals, len(l.RefundedTotals))
	for payment, byCurrency := range l.RefundedTotals {
		largest := totals{}
		for currency, told := range byCurrency {
			for a := range told {
				if old := largest[currency]; old == nil || a.compare(*old) > 0 {
					largest[currency] = &a
				}
			}
		}
		out[payment] = largest
	}
	return out
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *ledger) UnmarshalJSON(text []byte) error {
	in := storedLedger{plainLedger: (*plainLedger)(l)}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	if l.RefundedTotals != nil {
		return nil
	}
	for payment, byCurrency := range in.LargestRefundedTotals {
		if l.RefundedTotals == nil {
			l.RefundedTotals = map[string]series{}
		}
		told := series{}
		for currency, a := range byCurrency {
			if a != nil {
				told[currency] = map[amount]moment{*a: unknownMoment}
			}
		}
		l.RefundedTotals[payment] = told
	}
	return nil
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
