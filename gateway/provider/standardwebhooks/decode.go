package standardwebhooks

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

func (r *Rule) matches(doc *provider.JSON) bool {
	if !r.When.holds(doc) {
		return false
	}
	for _, c := range r.And {
		if !c.holds(doc) {
			return false
		}
	}
	return true
}

func (c Condition) holds(doc *provider.JSON) bool {
	v := doc.At(c.Pointer)
	switch v.Kind() {
	case provider.String:
		text, _ := v.Text()
		return text == c.Equals
	case provider.Number, provider.Bool:
		return string(v.Raw()) == c.Equals
	default:
		return false
	}
}

// reader reads members of one document and keeps the first error.
type reader struct {
	doc  *provider.JSON
	rule *Rule
	err  error
	// leftOut are the fields that could not be read and decide nothing.
	leftOut []string
}

// read fills in what the rule says. An event that lacks what its type needs is
// malformed.
func (r *Rule) read(doc *provider.JSON, e *event.Event) error {
	in := &reader{doc: doc, rule: r}
	e.Type = r.Type
	in.beside(event.LeftOutOccurredAt, func() { e.OccurredAt = in.time("occurred_at", r.OccurredAt) })
	in.beside(event.LeftOutCustomerRef, func() { e.Merchant.CustomerRef = in.text("customer_ref", r.CustomerRef) })
	switch groups[r.Type] {
	case ofPayment:
		e.Payment = in.payment()
	case ofRefund:
		e.Payment, e.Refund = in.refund()
	case ofDispute:
		e.Payment, e.Dispute = in.dispute()
	case ofOrder:
		e.Payment = &event.Payment{
			OrderRef:    in.needed("order_ref", r.OrderRef),
			ProviderRef: in.text("provider_ref", r.ProviderRef),
		}
		in.beside(event.LeftOutAmount, func() { e.Payment.Amount = in.money("amount", r.Amount) })
	case ofStock:
		e.Stock = in.stock()
	}
	e.LeftOut = in.leftOut
	return in.err
}

// beside reads what decides nothing: if it cannot be read, the field is left out.
func (in *reader) beside(field string, read func()) {
	before := in.err
	in.err = nil
	read()
	if in.err != nil && !slices.Contains(in.leftOut, field) {
		in.leftOut = append(in.leftOut, field)
	}
	in.err = before
}

// counted reads an amount; unless it counts, one that cannot be read is left out.
func (in *reader) counted(counts bool, field, name, pointer string) (m *event.Money) {
	read := func() { m = in.money(name, pointer) }
	if counts {
		read()
	} else {
		in.beside(field, read)
	}
	return m
}

func (in *reader) payment() *event.Payment {
	r := in.rule
	p := &event.Payment{
		OrderRef:    in.text("order_ref", r.OrderRef),
		ProviderRef: in.text("provider_ref", r.ProviderRef),
		Failure:     in.failure(),
		Final:       r.Final,
	}
	taken := r.Type == event.PaymentSucceeded
	p.Amount = in.counted(taken, event.LeftOutAmount, "amount", r.Amount)
	p.Captured = in.counted(taken, event.LeftOutAmount, "captured", r.Captured)
	in.beside(event.LeftOutMethod, func() { p.Method = in.text("method", r.Method) })
	if p.OrderRef == "" && p.ProviderRef == "" {
		in.fail("neither an order nor a payment is named")
	}
	if r.Type == event.PaymentSucceeded && p.Amount == nil && p.Captured == nil {
		in.fail("no amount")
	}
	return p
}

func (in *reader) refund() (*event.Payment, *event.Refund) {
	r := in.rule
	p := in.original()
	p.RefundedTotal = in.counted(r.Type == event.RefundSucceeded, event.LeftOutAmount, "refunded_total", r.RefundedTotal)
	p.Failure = in.failure()
	f := &event.Refund{ProviderRef: in.text("refund_ref", r.RefundRef)}
	f.Amount = in.counted(r.Type != event.RefundPending, event.LeftOutRefundAmount, "amount", r.Amount)
	if r.Type == event.RefundSucceeded && f.Amount == nil && p.RefundedTotal == nil {
		in.fail("no amount")
	}
	return p, f
}

func (in *reader) dispute() (*event.Payment, *event.Dispute) {
	r := in.rule
	d := &event.Dispute{ProviderRef: in.text("dispute_ref", r.DisputeRef)}
	d.Amount = in.counted(r.Type == event.DisputeLost, event.LeftOutDisputeAmount, "amount", r.Amount)
	return in.original(), d
}

// original names the payment that a refund or dispute is about.
func (in *reader) original() *event.Payment {
	p := &event.Payment{
		OrderRef:  in.text("order_ref", in.rule.OrderRef),
		ParentRef: in.text("parent_ref", in.rule.ParentRef),
	}
	p.ProviderRef = p.ParentRef
	if p.OrderRef == "" && p.ParentRef == "" {
		in.fail("neither an order nor a payment is named")
	}
	return p
}

func (in *reader) stock() *event.Stock {
	r := in.rule
	s := &event.Stock{
		SKU:       in.needed("sku", r.SKU),
		Available: in.count("available", r.Available),
		Change:    in.count("change", r.Change),
	}
	if s.Available == nil && s.Change == nil {
		in.fail("neither available nor change")
	}
	return s
}

func (in *reader) failure() *event.Failure {
	var f event.Failure
	in.beside(event.LeftOutFailure, func() { f.Code = in.text("failure_code", in.rule.FailureCode) })
	in.beside(event.LeftOutFailure, func() { f.Message = in.text("failure_message", in.rule.FailureMessage) })
	if f == (event.Failure{}) {
		return nil
	}
	return &f
}

// fail keeps the first problem. Problems never quote the body.
func (in *reader) fail(problem string) {
	if in.err == nil {
		in.err = fmt.Errorf("%w: %s: %s", provider.ErrMalformed, in.rule.Type, problem)
	}
}

// at returns the value a pointer leads to; absent and null are one.
func (in *reader) at(pointer string) provider.Value {
	if pointer == "" {
		return provider.Value{}
	}
	v := in.doc.At(pointer)
	if v.Kind() == provider.Null {
		return provider.Value{}
	}
	return v
}

// text reads a text, or an integer as it is written: many shops number their
// orders.
func (in *reader) text(name, pointer string) string {
	v := in.at(pointer)
	switch v.Kind() {
	case provider.Absent:
		return ""
	case provider.String:
		if text, ok := v.Text(); ok {
			return text
		}
	case provider.Number:
		if strings.ContainsAny(string(v.Raw()), ".eE") {
			break
		}
		return string(v.Raw())
	}
	in.fail(name + " is neither text nor an integer")
	return ""
}

func (in *reader) needed(name, pointer string) string {
	text := in.text(name, pointer)
	if text == "" {
		in.fail(name + " is missing")
	}
	return text
}

func (in *reader) count(name, pointer string) *int64 {
	v := in.at(pointer)
	if !v.Exists() {
		return nil
	}
	n, ok := v.Int64()
	if !ok {
		in.fail(name + " is not an integer")
		return nil
	}
	return &n
}

// money reads an amount, a number or text, and never by way of a float.
func (in *reader) money(name, pointer string) *event.Money {
	v := in.at(pointer)
	var text string
	switch v.Kind() {
	case provider.Absent:
		return nil
	case provider.String:
		text, _ = v.Text()
	case provider.Number:
		text = string(v.Raw())
	default:
		in.fail(name + " is neither a number nor text")
		return nil
	}
	currency := in.rule.CurrencyFixed
	if currency == "" {
		currency = in.at(in.rule.Currency).TextOr("")
	}
	parse := event.ParseDecimal
	if in.rule.AmountUnit == UnitMinor {
		parse = event.ParseMinor
	}
	m, err := parse(text, currency)
	switch {
	case err != nil:
		in.fail(name + ": " + err.Error()) // errors of money do not repeat their input
		return nil
	case m.Minor < 0:
		in.fail(name + " is negative")
		return nil
	}
	return &m
}

// latest is the end of the year 9999, behind which times have no RFC 3339 form.
const latest = 253402300799

func (in *reader) time(name, pointer string) time.Time {
	v := in.at(pointer)
	switch v.Kind() {
	case provider.Absent:
		return time.Time{}
	case provider.String:
		text, _ := v.Text()
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return at.UTC().Truncate(time.Millisecond)
		}
	case provider.Number:
		if seconds, ok := v.Int64(); ok && seconds >= 0 && seconds <= latest {
			return time.Unix(seconds, 0).UTC()
		}
	}
	in.fail(name + " is neither an RFC 3339 time nor Unix seconds")
	return time.Time{}
}
