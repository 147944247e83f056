package event

import (
	"maps"
	"slices"
)

// payment is what one account told of one payment, under all names it has. Sums
// are in the order's currency.
type payment struct {
	names []string
	// taken: money was taken. Its amount may not be known, or be in another currency.
	taken, amountKnown bool
	// placed: it has a name of its own. A total that is told under the name of an
	// invoice may be of a payment that is told under its own name as well.
	placed bool
	// refunds is the sum of its refunds that succeeded; refunded is larger where a
	// total was told.
	captures, total, refunds, refunded, losses sum
	// refundKnown: something tells of a refund that did not fail.
	refundKnown bool
	// lostAll: a dispute was lost whose amount is not known; no part is known to remain.
	lostAll bool
	// elsewhere: another order that claims it has its points.
	elsewhere bool
}

// captured is the larger of what its captures add up to and the total told: each is
// a lower bound of the same money.
func (p *payment) captured() sum { return larger(p.captures, p.total) }

// lost is what lost disputes took; of one whose amount is not known, what was left.
func (p *payment) lost() sum {
	if p.lostAll {
		return larger(p.losses, p.captured().less(p.refunded))
	}
	return p.losses
}

// back is all that went back.
func (p *payment) back() sum { return p.refunded.add(p.lost()) }

// counts reports whether the order was paid by it and has its money still: a payment
// that was given back whole does not pay twice.
func (p *payment) counts() bool {
	if !p.taken || p.amountKnown && p.captured().isZero() {
		return false
	}
	return !p.amountKnown || p.back().compare(p.captured()) < 0
}

// books are the payments of one account and what belongs to none of them.
type books struct {
	of       *ledger
	payments []*payment
	byName   map[string]*payment
	// captured and refunded are totals of the whole order.
	capturedTotal, refundedTotal sum
	// refunds is the sum of all refunds, refundsOfNone, losses and lostAll what names
	// no payment.
	refunds, losses sum
	// failedOfNone are refunds that failed, of one or another of several payments.
	failedOfNone sum
	refundOfNone bool
	lostAll      bool
}

// payment is the one of that name, made when missing.
func (b *books) payment(name string) *payment {
	p, ok := b.byName[name]
	if !ok {
		p = &payment{names: []string{name}}
		b.byName[name] = p
		b.payments = append(b.payments, p)
	}
	return p
}

// relate makes one payment of two names.
func (b *books) relate(name, other string) {
	p, q := b.payment(name), b.payment(other)
	if p == q {
		return
	}
	p.names = append(p.names, q.names...)
	for _, n := range q.names {
		b.byName[n] = p
	}
	b.payments = slices.DeleteFunc(b.payments, func(r *payment) bool { return r == q })
	p.placed = true
}

// books add up an account's words in one currency.
func (l *ledger) books(currency string) *books {
	b := &books{of: l, byName: map[string]*payment{}}
	for name, others := range l.Related {
		for _, other := range others {
			b.relate(name, other)
		}
	}
	for name, known := range l.Captures {
		p := b.payment(name)
		p.taken, p.placed = true, true
		for c, set := range known {
			if c == currency && len(set) > 0 {
				p.captures = p.captures.add(set[0].sum())
				p.amountKnown = true
			}
		}
	}
	for name, t := range l.CapturedTotals {
		a := t[currency]
		if name == "" {
			if a != nil {
				b.capturedTotal = a.sum()
			}
			continue
		}
		p := b.payment(name)
		p.taken = true
		if a != nil {
			p.total = larger(p.total, a.sum())
			p.amountKnown = true
		}
	}
	b.refund(l, currency)
	b.dispute(l, currency)
	for _, name := range l.Elsewhere {
		b.payment(name).elsewhere = true
	}
	return b
}

// refund adds up the refunds. Of a payment that is the larger of the refunds that
// succeeded and the totals told, each less the refunds that were in it and failed.
func (b *books) refund(l *ledger, currency string) {
	var failed []failedRefund
	for id, set := range l.Refunds {
		a, c := visibleAmount(set)
		of, known := first(l.RefundOf[id])
		switch visible(set) {
		case refundFailed:
			if c == currency {
				failed = append(failed, failedRefund{a, moment(set[0].At), of})
			}
			continue
		case refundSucceeded:
			if c == currency {
				b.refunds = b.refunds.add(a.sum())
				if known {
					p := b.payment(of)
					p.refunds = p.refunds.add(a.sum())
				}
			}
		}
		if known {
			b.payment(of).refundKnown = true
		} else {
			b.refundOfNone = true
		}
	}
	for _, p := range b.payments {
		p.refunded = p.refunds
	}
	for name, told := range l.RefundedTotals {
		var total sum
		for a, at := range told[currency] {
			total = larger(total, a.less(failed, at, func(of string) bool {
				return name == "" || of == "" && len(l.RefundedTotals) == 1 || b.same(of, name)
			}))
		}
		if name == "" {
			b.refundedTotal, b.refundOfNone = total, true
			continue
		}
		p := b.payment(name)
		p.refunded, p.refundKnown = larger(p.refunded, total), true
	}
	for _, f := range failed {
		if f.of == "" && len(l.RefundedTotals) > 1 {
			b.failedOfNone = b.failedOfNone.add(f.amount.sum())
		}
	}
}

// first is the first of the names, if there is one.
func first(names []string) (string, bool) {
	if len(names) == 0 {
		return "", false
	}
	return names[0], true
}

// same reports whether two names are of one payment.
func (b *books) same(name, other string) bool {
	return name == other || b.byName[name] != nil && b.byName[name] == b.byName[other]
}

// failedRefund is a refund that failed: how much, when, and of which payment.
type failedRefund struct {
	amount amount
	at     moment
	of     string
}

// less is a total of refunds, told at that moment, less the failed refunds that were
// in it: those that failed then or later, and are not larger than it.
func (a amount) less(failed []failedRefund, at moment, of func(payment string) bool) sum {
	rest := a.sum()
	for _, f := range failed {
		if of(f.of) && f.amount.compare(a) <= 0 && (f.at == 0 || f.at >= at) {
			rest = rest.less(f.amount.sum())
		}
	}
	return rest
}

// dispute adds up what lost disputes took.
func (b *books) dispute(l *ledger, currency string) {
	for id, set := range l.Disputes {
		if visible(set) != disputeLost {
			continue
		}
		a, c := visibleAmount(set)
		exact := c != "" && c == currency
		of, known := first(l.DisputeOf[id])
		switch {
		case known && exact:
			p := b.payment(of)
			p.losses = p.losses.add(a.sum())
		case known && b.payment(of).taken:
			b.payment(of).lostAll = true
		case exact:
			b.losses = b.losses.add(a.sum())
		default:
			b.lostAll = true
		}
	}
}

// sums are an account's, or an order's, money: what was taken, given back, and lost to
// disputes.
type sums struct {
	captured, refunded, lost sum
	// lostAll: a dispute was lost that may be over all of it.
	lostAll bool
}

func (s *sums) add(t sums) {
	s.captured, s.refunded, s.lost = s.captured.add(t.captured), s.refunded.add(t.refunded), s.lost.add(t.lost)
	s.lostAll = s.lostAll || t.lostAll
}

// back is all that went back, never more than was captured.
func (s *sums) back() sum {
	if s.lostAll {
		return s.captured
	}
	return smaller(s.refunded.add(s.lost), s.captured)
}

// sum adds up the payments. What is told of the whole order, and what names no payment,
// is another lower bound of the same money.
func (b *books) sum() sums {
	var placed, totals, refunded sum
	out := sums{lost: b.losses, lostAll: b.lostAll}
	for _, p := range b.payments {
		if p.placed {
			placed = placed.add(p.captured())
		}
		totals = totals.add(p.total)
		refunded = refunded.add(p.refunded)
		out.lost = out.lost.add(p.lost())
	}
	out.captured = larger(larger(placed, totals), b.capturedTotal)
	out.refunded = larger(larger(refunded.less(b.failedOfNone), b.refunds), b.refundedTotal)
	return out
}

// own are the sums less the payments whose points belong to another order. A total that
// may be of such a payment is taken for one: points are never given twice.
func (b *books) own() sums {
	out := b.sum()
	for _, p := range b.payments {
		if p.elsewhere {
			out.captured = out.captured.less(p.captured())
			out.refunded = out.refunded.less(p.refunded)
			out.lost = out.lost.less(p.lost())
		}
	}
	return out
}

// paying is how many payments took money that the order still has. Invoices and
// payments are two views of the same: the larger number counts, and an invoice whose
// payment is not known may be one that was given back.
func (b *books) paying() int {
	var placed, back, totals int
	for _, p := range b.payments {
		switch {
		case p.placed && p.counts():
			placed++
		case p.placed && p.taken && !p.captured().isZero():
			back++
		}
		if !p.total.isZero() && (p.counts() || p.placed) {
			totals++
		}
	}
	return max(placed, totals-back)
}

// allBooks are those of every account, in the order of their names.
func (s *state) allBooks(currency string) []*books {
	all := make([]*books, 0, len(s.Accounts))
	for _, l := range s.Accounts {
		if len(s.Accounts) == 1 { // As most orders have it.
			return append(all, l.books(currency))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Accounts)) {
		all = append(all, s.Accounts[name].books(currency))
	}
	return all
}
