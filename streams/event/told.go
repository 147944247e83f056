package event

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
)

// told is one thing that was told of a refund or a dispute.
type told struct {
	Value outcome `json:"value"`
	// Sequence is the provider's own version, when it has one.
	Sequence *int64 `json:"sequence,omitempty"`
	// At is in milliseconds since 1970, 0 when unknown.
	At int64 `json:"at_ms,omitempty"`
	// Amount is without meaning where Currency is "".
	Amount   amount `json:"amount,omitzero"`
	Currency string `json:"currency,omitempty"`
}

// errOutcome is wrapped in ErrOrder by Order.UnmarshalJSON.
var errOutcome = errors.New("unknown outcome")

// outcome is what a refund or dispute has come to.
type outcome string

// The order of outcomes that are told for the same moment, by rank.
const (
	refundPending   outcome = "pending"
	refundFailed    outcome = "failed"
	refundSucceeded outcome = "succeeded"
	disputeOpened   outcome = "opened"
	disputeUpdated  outcome = "updated"
	disputeClosed   outcome = "closed"
	disputeLost     outcome = "lost"
	disputeWon      outcome = "won"
)

// rank is 0 for an unknown outcome; from ends on it is an end.
func (v outcome) rank() int {
	switch v {
	case refundPending, disputeOpened:
		return 1
	case disputeUpdated:
		return 2
	case refundFailed, disputeClosed:
		return ends
	case refundSucceeded, disputeLost:
		return ends + 1
	case disputeWon:
		return ends + 2
	default:
		return 0
	}
}

// ends is the rank from which on an outcome ends a refund or dispute.
const ends = 3

// UnmarshalJSON implements json.Unmarshaler; it refuses an unknown outcome, and none.
func (t *told) UnmarshalJSON(text []byte) error {
	type plain told
	if err := json.Unmarshal(text, (*plain)(t)); err != nil {
		return err
	}
	if t.Value.rank() == 0 {
		return errOutcome
	}
	return nil
}

// compare puts the most telling first: an end before everything else, so that a
// late or lagging word never takes an end back; then the higher sequence (unknown
// is lowest), the later time, the higher rank. Amounts only make the order total.
func (t told) compare(u told) int {
	return cmp.Or(
		compareBool(u.Value.rank() >= ends, t.Value.rank() >= ends),
		compareSequence(u.Sequence, t.Sequence),
		cmp.Compare(u.At, t.At),
		cmp.Compare(u.Value.rank(), t.Value.rank()),
		cmp.Compare(u.Currency, t.Currency),
		u.Amount.compare(t.Amount),
		cmp.Compare(u.Value, t.Value),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

func compareSequence(a, b *int64) int {
	if a == nil || b == nil {
		return compareBool(a != nil, b != nil)
	}
	return cmp.Compare(*a, *b)
}

// visible is the outcome that counts, of a set sorted by compare.
func visible(set []told) outcome {
	if len(set) == 0 {
		return ""
	}
	return set[0].Value
}

// visibleAmount is the amount that counts: the most telling one told with the
// visible outcome, failing that the most telling one.
func visibleAmount(set []told) (a amount, currency string) {
	for _, t := range set {
		if t.Currency == "" {
			continue
		}
		if t.Value == visible(set) {
			return t.Amount, t.Currency
		}
		if currency == "" {
			a, currency = t.Amount, t.Currency
		}
	}
	return a, currency
}

// undecided reports whether two outcomes that exclude each other were told, and
// nothing says which of them came last. Where sequence or time says it, both may be
// true, one after the other: providers' documents have refunds that fail after they
// succeeded, or succeed after they failed, and disputes that are decided anew.
func undecided(set []told, v, w outcome) bool {
	lastV := slices.IndexFunc(set, func(t told) bool { return t.Value == v })
	lastW := slices.IndexFunc(set, func(t told) bool { return t.Value == w })
	if lastV < 0 || lastW < 0 {
		return false
	}
	a, b := set[lastV], set[lastW]
	return compareSequence(a.Sequence, b.Sequence) == 0 && a.At == b.At
}
