package standardwebhooks

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// Condition holds when the value at a JSON pointer is a text, number or boolean
// that is written so.
type Condition struct {
	// Pointer leads to the value, such as /type.
	Pointer string `yaml:"pointer"`
	// Equals is the text to compare with; a number or a boolean is compared as it is
	// written in the JSON.
	Equals string `yaml:"equals"`
}

// Units of an amount.
const (
	// UnitDecimal is an amount in major units: "88.00" or 88.00.
	UnitDecimal = "decimal"
	// UnitMinor is an integer in the currency's smallest unit: 8800.
	UnitMinor = "minor"
)

// Rule reads one kind of callback. All members but When, And, Type, AmountUnit,
// CurrencyFixed and Final are JSON pointers; those that are left out are not read.
type Rule struct {
	// When chooses the callbacks the rule is for, usually by their /type.
	When Condition `yaml:"when"`
	// And are further conditions that must hold as well.
	And []Condition `yaml:"and"`
	// Type is the canonical type of the event.
	Type event.Type `yaml:"type"`
	// OccurredAt is when it happened: RFC 3339 text or Unix seconds.
	OccurredAt string `yaml:"occurred_at"`
	// OrderRef is the merchant's order reference, a text or an integer.
	OrderRef string `yaml:"order_ref"`
	// CustomerRef is the merchant's own customer reference.
	CustomerRef string `yaml:"customer_ref"`
	// ProviderRef is the id of the payment. Every event about one payment must carry
	// the same; a payment.succeeded without one is a payment of its own each time.
	ProviderRef string `yaml:"provider_ref"`
	// ParentRef is the id of the payment a refund or dispute is about.
	ParentRef string `yaml:"parent_ref"`
	// RefundRef is the id of the refund.
	RefundRef string `yaml:"refund_ref"`
	// DisputeRef is the id of the dispute.
	DisputeRef string `yaml:"dispute_ref"`
	// Method is how it was paid.
	Method string `yaml:"method"`
	// Amount is the amount of this fact alone: of the payment, the refund or the
	// dispute.
	Amount string `yaml:"amount"`
	// Captured is the total taken so far, where the sender tells totals.
	Captured string `yaml:"captured"`
	// RefundedTotal is the total given back so far, where the sender tells totals.
	RefundedTotal string `yaml:"refunded_total"`
	// AmountUnit is decimal or minor, for all amounts; empty means decimal.
	AmountUnit string `yaml:"amount_unit"`
	// Currency leads to the ISO 4217 code.
	Currency string `yaml:"currency"`
	// CurrencyFixed is the ISO 4217 code of a sender that has only one.
	CurrencyFixed string `yaml:"currency_fixed"`
	// FailureCode and FailureMessage say why a payment failed.
	FailureCode    string `yaml:"failure_code"`
	FailureMessage string `yaml:"failure_message"`
	// Final says that the payment cannot change any more after this.
	Final bool `yaml:"final"`
	// SKU names the article whose stock changed.
	SKU string `yaml:"sku"`
	// Available is how many are left, Change how many were added or taken: integers.
	Available string `yaml:"available"`
	Change    string `yaml:"change"`
}

// group is a family of types that are read alike.
type group uint8

const (
	ofPayment group = iota + 1
	ofRefund
	ofDispute
	ofOrder
	ofStock
	ofNothing
)

// groups are the types a rule may have.
var groups = map[event.Type]group{
	event.PaymentPending:        ofPayment,
	event.PaymentActionRequired: ofPayment,
	event.PaymentAuthorized:     ofPayment,
	event.PaymentSucceeded:      ofPayment,
	event.PaymentFailed:         ofPayment,
	event.PaymentClosed:         ofPayment,
	event.RefundPending:         ofRefund,
	event.RefundSucceeded:       ofRefund,
	event.RefundFailed:          ofRefund,
	event.DisputeOpened:         ofDispute,
	event.DisputeUpdated:        ofDispute,
	event.DisputeWon:            ofDispute,
	event.DisputeLost:           ofDispute,
	event.DisputeClosed:         ofDispute,
	event.OrderCreated:          ofOrder,
	event.OrderShipped:          ofOrder,
	event.StockChanged:          ofStock,
	event.TestPing:              ofNothing,
}

// DefaultMapping reads this shape, whose types are the canonical ones:
//
//	{"type": "payment.succeeded", "timestamp": "2026-03-04T05:06:07Z",
//	 "data": {"order_id": "A1001", "customer_id": "C7", "payment_id": "P1",
//	          "amount": "88.00", "currency": "EUR"}}
//
// Amounts are in major units. Further members of data: refund_id and
// refunded_total of a refund, dispute_id of a dispute, method, failure_code and
// failure_message of a payment, and sku, available and change of stock.changed.
func DefaultMapping() []Rule {
	names := make([]event.Type, 0, len(groups))
	for typ := range groups {
		names = append(names, typ)
	}
	slices.Sort(names)
	rules := make([]Rule, 0, len(names))
	for _, typ := range names {
		rules = append(rules, defaultRule(typ))
	}
	return rules
}

func defaultRule(typ event.Type) Rule {
	r := Rule{When: Condition{Pointer: "/type", Equals: string(typ)}, Type: typ, OccurredAt: "/timestamp"}
	g := groups[typ]
	if g == ofNothing {
		return r
	}
	if g == ofStock {
		r.SKU, r.Available, r.Change = "/data/sku", "/data/available", "/data/change"
		return r
	}
	r.OrderRef, r.CustomerRef = "/data/order_id", "/data/customer_id"
	r.Amount, r.AmountUnit, r.Currency = "/data/amount", UnitDecimal, "/data/currency"
	switch g {
	case ofPayment:
		r.ProviderRef, r.Method = "/data/payment_id", "/data/method"
		r.FailureCode, r.FailureMessage = "/data/failure_code", "/data/failure_message"
	case ofRefund:
		r.ParentRef, r.RefundRef, r.RefundedTotal = "/data/payment_id", "/data/refund_id", "/data/refunded_total"
	case ofDispute:
		r.ParentRef, r.DisputeRef = "/data/payment_id", "/data/dispute_id"
	}
	return r
}

// pointers are the rule's pointers by their names in the configuration.
func (r *Rule) pointers() []struct{ name, pointer string } {
	return []struct{ name, pointer string }{
		{"occurred_at", r.OccurredAt},
		{"order_ref", r.OrderRef},
		{"customer_ref", r.CustomerRef},
		{"provider_ref", r.ProviderRef},
		{"parent_ref", r.ParentRef},
		{"refund_ref", r.RefundRef},
		{"dispute_ref", r.DisputeRef},
		{"method", r.Method},
		{"amount", r.Amount},
		{"captured", r.Captured},
		{"refunded_total", r.RefundedTotal},
		{"currency", r.Currency},
		{"failure_code", r.FailureCode},
		{"failure_message", r.FailureMessage},
		{"sku", r.SKU},
		{"available", r.Available},
		{"change", r.Change},
	}
}

// validate returns every problem; each begins with the name of the member.
func (r *Rule) validate() []error {
	errs := r.When.validate("when")
	for i, c := range r.And {
		errs = append(errs, c.validate(fmt.Sprintf("and[%d]", i))...)
	}
	for _, p := range r.pointers() {
		if p.pointer == "" {
			continue
		}
		if err := provider.CheckPointer(p.pointer); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	g, ok := groups[r.Type]
	if !ok {
		return append(errs, fmt.Errorf("type: must be one of %s", typeNames()))
	}
	if r.AmountUnit != "" && r.AmountUnit != UnitDecimal && r.AmountUnit != UnitMinor {
		errs = append(errs, fmt.Errorf("amount_unit: must be %s or %s", UnitDecimal, UnitMinor))
	}
	errs = append(errs, r.validateCurrency()...)
	errs = append(errs, r.validateNeeds(g)...)
	return append(errs, r.validateUse(g)...)
}

func (c Condition) validate(path string) []error {
	var errs []error
	if err := provider.CheckPointer(c.Pointer); err != nil {
		errs = append(errs, fmt.Errorf("%s.pointer: %w", path, err))
	}
	if c.Equals == "" {
		errs = append(errs, fmt.Errorf("%s.equals: must not be empty", path))
	}
	return errs
}

func (r *Rule) validateCurrency() []error {
	amounts := r.Amount != "" || r.Captured != "" || r.RefundedTotal != ""
	switch {
	case r.Currency != "" && r.CurrencyFixed != "":
		return []error{errors.New("currency_fixed: leave it out, or leave out currency")}
	case r.CurrencyFixed != "":
		if _, err := event.FromMinor(0, r.CurrencyFixed); err != nil {
			return []error{errors.New("currency_fixed: must be a three-letter ISO 4217 code")}
		}
	case r.Currency == "" && amounts:
		return []error{errors.New("currency: an amount needs currency or currency_fixed")}
	}
	return nil
}

// validateNeeds reports what events of the type are nothing without.
func (r *Rule) validateNeeds(g group) []error {
	var errs []error
	need := func(ok bool, problem string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s for %s", problem, r.Type))
		}
	}
	switch g {
	case ofPayment:
		need(r.OrderRef != "" || r.ProviderRef != "", "order_ref: this or provider_ref is needed")
		need(r.Type != event.PaymentSucceeded || r.Amount != "" || r.Captured != "", "amount: this or captured is needed")
	case ofRefund:
		need(r.OrderRef != "" || r.ParentRef != "", "order_ref: this or parent_ref is needed")
		need(r.Type != event.RefundSucceeded || r.Amount != "" || r.RefundedTotal != "", "amount: this or refunded_total is needed")
	case ofDispute:
		need(r.OrderRef != "" || r.ParentRef != "", "order_ref: this or parent_ref is needed")
	case ofOrder:
		need(r.OrderRef != "", "order_ref: is needed")
	case ofStock:
		need(r.SKU != "", "sku: is needed")
		need(r.Available != "" || r.Change != "", "available: this or change is needed")
	}
	return errs
}

// uses are the members that only some groups read; a rule that has one for
// another group was meant otherwise than it would work.
var uses = map[string][]group{
	"provider_ref":    {ofPayment, ofOrder},
	"parent_ref":      {ofRefund, ofDispute},
	"refund_ref":      {ofRefund},
	"dispute_ref":     {ofDispute},
	"method":          {ofPayment},
	"captured":        {ofPayment},
	"refunded_total":  {ofRefund},
	"failure_code":    {ofPayment, ofRefund},
	"failure_message": {ofPayment, ofRefund},
	"order_ref":       {ofPayment, ofRefund, ofDispute, ofOrder},
	"customer_ref":    {ofPayment, ofRefund, ofDispute, ofOrder},
	"amount":          {ofPayment, ofRefund, ofDispute, ofOrder},
	"currency":        {ofPayment, ofRefund, ofDispute, ofOrder},
	"sku":             {ofStock},
	"available":       {ofStock},
	"change":          {ofStock},
}

func (r *Rule) validateUse(g group) []error {
	var errs []error
	for _, p := range r.pointers() {
		if in, limited := uses[p.name]; limited && p.pointer != "" && !slices.Contains(in, g) {
			errs = append(errs, fmt.Errorf("%s: means nothing for %s", p.name, r.Type))
		}
	}
	if r.Final && g != ofPayment {
		errs = append(errs, fmt.Errorf("final: means nothing for %s", r.Type))
	}
	return errs
}

func typeNames() string {
	names := make([]string, 0, len(groups))
	for typ := range groups {
		names = append(names, string(typ))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
