package event

import "slices"

// Disagreement names why a person, or a query to the provider, should look at an
// order. The list is closed: it is a metric label.
type Disagreement string

// Disagreements, as Conflicts lists them.
const (
	// ConflictTwoWay: one refund was told to have succeeded and failed, or one
	// dispute to be won and lost, and neither time nor sequence tells which came last.
	ConflictTwoWay Disagreement = "two_way"
	// ConflictPaidAndClosed: money was taken, the provider closed that payment, and
	// nothing tells of a refund.
	ConflictPaidAndClosed Disagreement = "paid_and_closed"
	// ConflictCurrency: amounts of the order are in different currencies. Those
	// outside the order's currency are kept and not counted.
	ConflictCurrency Disagreement = "currency"
	// ConflictAmount: one capture, or one refund, was told with different amounts.
	ConflictAmount Disagreement = "amount"
	// ConflictMissingAmount: money moved and nothing tells how much.
	ConflictMissingAmount Disagreement = "missing_amount"
	// ConflictNegativeAmount: an amount below zero was told and not counted.
	ConflictNegativeAmount Disagreement = "negative_amount"
	// ConflictOverRefunded: more was refunded than captured.
	ConflictOverRefunded Disagreement = "over_refunded"
	// ConflictDoublePayment: more than one payment took money for the order, and has
	// not been given back.
	ConflictDoublePayment Disagreement = "double_payment"
	// ConflictUnreadable: an event named a customer, or a refund, in a way that could
	// not be read, and nothing else tells the customer.
	ConflictUnreadable Disagreement = "unreadable"
	// ConflictCustomer: events name different customers.
	ConflictCustomer Disagreement = "customer"
	// ConflictOverflow: a sum is larger than Money can hold.
	ConflictOverflow Disagreement = "overflow"
	// ConflictCap: the order has more captures, refunds, disputes or the like than
	// are kept; its sums may be too low.
	ConflictCap Disagreement = "cap"
)

// Conflicts lists the order's disagreements, sorted. It is a pure function of the
// order, as Status is: a disagreement that later events explain is listed no more.
func (o *Order) Conflicts() []Disagreement { return slices.Clone(o.view().conflicts) }

// disagreements is a set of them.
type disagreements []Disagreement

func (f *disagreements) add(d Disagreement, is bool) {
	if is && !slices.Contains(*f, d) {
		*f = append(*f, d)
	}
}

func (s *state) conflicts(v *view, all []*books) []Disagreement {
	var found disagreements
	found.add(ConflictCap, s.Capped)
	found.add(ConflictNegativeAmount, s.Negative)
	found.add(ConflictCustomer, len(s.Customers) > 1)
	found.add(ConflictUnreadable, slices.ContainsFunc(s.Unreadable, func(field string) bool {
		return field != LeftOutCustomerRef || len(s.Customers) == 0
	}))
	found.add(ConflictOverRefunded, !v.captured.isZero() && v.refunded.compare(v.captured) > 0)
	if v.currency != "" {
		for _, s := range [...]sum{v.captured, v.refunded, v.lost} {
			found.add(ConflictOverflow, !s.fits(v.currency))
		}
		s.eachCurrency(func(currency string) { found.add(ConflictCurrency, currency != v.currency) })
	}
	paying := 0
	for _, b := range all {
		paying += b.paying()
		s.paidAndClosed(b, &found)
		b.disagreements(&found)
	}
	found.add(ConflictDoublePayment, paying > 1)
	slices.Sort(found)
	return found
}

// paidAndClosed looks for a payment that took money and was closed under the same name:
// an invoice that is paid in another way closes its intent. A closing without a name is
// one of this account's payments, if money was taken before it.
func (s *state) paidAndClosed(b *books, found *disagreements) {
	l := b.of
	closing := latest(s.Unnamed.Closed, l.Attempts[""].Closed)
	after := closing == unknownMoment || closing != 0 && closing > s.firstPaid()
	for _, p := range b.payments {
		closed := after || slices.ContainsFunc(p.names, func(name string) bool {
			return name != "" && l.Attempts[name].Closed != 0 && l.took(name)
		})
		found.add(ConflictPaidAndClosed, p.taken && closed && !p.refundKnown && !b.refundOfNone)
	}
	found.add(ConflictPaidAndClosed, len(l.CapturedTotals[""]) > 0 && after && !b.refundOfNone)
}

// took reports whether money was told to be taken under that very name.
func (l *ledger) took(name string) bool {
	_, captured := l.Captures[name]
	_, total := l.CapturedTotals[name]
	return captured || total
}

// firstPaid is when money was taken for the first time, 0 when that is not known.
func (s *state) firstPaid() moment {
	var first moment
	for _, at := range s.Currencies {
		if m := momentOf(at); m == unknownMoment {
			return 0
		} else if first == 0 || m < first {
			first = m
		}
	}
	return first
}

// disagreements adds those that one account's own words hold.
func (b *books) disagreements(found *disagreements) {
	l := b.of
	for _, known := range l.Captures {
		found.add(ConflictMissingAmount, len(known) == 0 && len(l.CapturedTotals) == 0)
		for _, set := range known {
			found.add(ConflictAmount, len(set) > 1)
		}
	}
	for id, set := range l.Refunds {
		found.add(ConflictTwoWay, undecided(set, refundSucceeded, refundFailed))
		found.add(ConflictAmount, differ(set))
		_, currency := visibleAmount(set)
		switch {
		case currency != "":
		case visible(set) == refundSucceeded && len(l.RefundedTotals) == 0,
			visible(set) == refundFailed && l.totalUntil(b, id, set[0].At): // How much of the total it was is not known.
			found.add(ConflictMissingAmount, true)
		}
	}
	for _, set := range l.Disputes {
		// The amount in dispute may change while it lasts: that is no disagreement.
		found.add(ConflictTwoWay, undecided(set, disputeWon, disputeLost))
	}
}

// totalUntil reports whether a total that the refund may be in was told by then; 0 is an
// unknown time.
func (l *ledger) totalUntil(b *books, refund string, at int64) bool {
	of, known := first(l.RefundOf[refund])
	for payment, byCurrency := range l.RefundedTotals {
		if known && payment != "" && !b.same(of, payment) {
			continue
		}
		for _, told := range byCurrency {
			for _, when := range told {
				if at == 0 || int64(when) <= at {
					return true
				}
			}
		}
	}
	return false
}

// differ reports whether two amounts of one currency were told.
func differ(set []told) bool {
	seen := make(map[string]amount)
	for _, t := range set {
		if t.Currency == "" {
			continue
		}
		if a, ok := seen[t.Currency]; ok && a != t.Amount {
			return true
		}
		seen[t.Currency] = t.Amount
	}
	return false
}
