package stripe

import (
	"fmt"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// releasesApart is the API version since which Stripe does not count among the
// refunds of a charge what was only released of its authorization
// (docs.stripe.com/changelog/basil/2025-03-31, "Partially capturing or cancelling
// payments no longer creates a Refund").
const releasesApart = "2025-03-31"

// givenBack is the total that was refunded of a charge's captured money, nil when
// that is nothing: what was reserved and then released was never ours.
func (r *reading) givenBack(member string) (*event.Money, error) {
	refunded, err := r.required(member)
	if err != nil {
		return nil, err
	}
	if uncaptured(r.object) {
		return nil, nil
	}
	captured, err := r.amount("amount_captured")
	if err != nil {
		return nil, err
	}
	minor := refunded.Minor
	// Without amount_captured nothing tells how much of it was left over.
	if captured != nil {
		whole, err := r.required("amount")
		if err != nil {
			return nil, err
		}
		// Below zero when more was captured than authorized, and nothing is left over.
		rest := max(whole.Minor-captured.Minor, 0)
		if r.holdsRest(minor, captured.Minor, rest) {
			minor -= rest
		}
		if minor > captured.Minor {
			return nil, fmt.Errorf("%w: more was refunded than captured", provider.ErrMalformed)
		}
	}
	if minor == 0 {
		return nil, nil
	}
	return r.minor(minor)
}

// holdsRest reports whether what was refunded of a charge includes the rest that a
// partial capture left over. A rest is released as a whole, so less than it are
// refunds alone; and refunds alone are never more than was captured. Between the
// two the event's API version has to tell. It is not known whether the request that
// captured was made in that version too; where it was made in one on the other side
// of releasesApart, the total is off by the rest.
func (r *reading) holdsRest(refunded, captured, rest int64) bool {
	switch {
	case refunded < rest:
		return false
	case refunded > captured:
		return true
	default:
		return r.version < releasesApart
	}
}

// releases reports whether a refund says that it only released what had been
// reserved, as API versions before releasesApart had them. It shows where nothing
// of the charge was captured: the reason says so, or the balance stayed as it was,
// or the charge is expanded. The rest that a partial capture leaves over cannot be
// told from money given back, and counts as refunded.
func (r *reading) releases() bool {
	return r.object.Member("reason").TextOr("") == "expired_uncaptured_charge" ||
		r.object.Member("balance_transaction").Kind() == provider.Null ||
		uncaptured(r.object.Member("charge"))
}

// captured reads what was captured of a charge where API versions did not have
// amount_captured yet: what the capture left over stood among the refunds then.
func (r *reading) captured() error {
	whole, err := r.required("amount")
	if err != nil {
		return err
	}
	rest, err := r.amount("amount_refunded")
	if err != nil {
		return err
	}
	switch {
	case rest == nil:
		r.pay.Amount = whole
	case rest.Minor > whole.Minor:
		err = fmt.Errorf("%w: more was refunded than charged", provider.ErrMalformed)
	default:
		r.pay.Amount, err = r.minor(whole.Minor - rest.Minor)
	}
	return err
}

// uncaptured reports whether a charge says that nothing of it was captured.
func uncaptured(charge provider.Value) bool {
	captured, ok := charge.Member("captured").Bool()
	return ok && !captured
}

// minor is an amount in the object's currency that no member holds.
func (r *reading) minor(n int64) (*event.Money, error) {
	return moneyOf(n, r.object.Member("currency"))
}
