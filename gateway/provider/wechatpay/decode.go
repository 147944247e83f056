package wechatpay

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// currency is what amounts are in where a notice does not say: refunds in China do not.
const currency = "CNY"

// kind is what an event_type means.
type kind struct {
	typ event.Type
	// state is the member of the notice that must say the same as the event_type, and
	// words are what it may say. Without that the event is unmapped.
	state string
	words []string
}

var kinds = map[string]kind{
	"TRANSACTION.SUCCESS": {event.PaymentSucceeded, "trade_state", []string{"SUCCESS"}},
	"TRANSACTION.FAIL":    {event.PaymentFailed, "trade_state", []string{"PAYERROR", "PAY_FAIL", "NOTPAY", "CLOSED", "REVOKED"}},
	"REFUND.SUCCESS":      {event.RefundSucceeded, "refund_status", []string{"SUCCESS"}},
	// Abnormal is not the end: the merchant may have the money sent elsewhere.
	"REFUND.ABNORMAL": {event.RefundFailed, "refund_status", []string{"ABNORMAL"}},
	"REFUND.CLOSED":   {event.RefundFailed, "refund_status", []string{"CLOSED"}},
}

func (k kind) refund() bool { return k.state == "refund_status" }

// Decode implements provider.Provider.
func (p *Provider) Decode(cb *provider.Callback, _ *provider.Verified) ([]provider.Decoded, error) {
	envelope, err := provider.ParseJSON(cb.Body)
	if err != nil {
		return nil, err
	}
	defer envelope.Free()
	root := envelope.Root()
	text, err := p.open(root.Member("resource"))
	if err != nil {
		return nil, err
	}
	plain, err := provider.ParseJSON(text)
	if err != nil {
		return nil, fmt.Errorf("%w (decrypted resource)", err)
	}
	defer plain.Free()
	words := root.Member("event_type").TextOr("")
	k, mapped := kinds[words]
	doc := plain.Root()
	if err := p.checkIdentity(doc, k, mapped); err != nil {
		return nil, err
	}
	id := root.Member("id").TextOr("")
	base := event.Event{
		Type:          event.Unmapped,
		ProviderEvent: event.ProviderEvent{ID: id, IDAuthenticated: id != "", Type: words},
		Authenticity:  event.Signature,
		Completeness:  event.Full,
	}
	if p.options.Live != nil {
		base.Live = provider.Live(*p.options.Live)
	}
	setTime(&base, root.Member("create_time"))
	if subs := doc.Member("sub_orders"); mapped && subs.Kind() == provider.Array {
		return p.combined(base, k, doc, subs)
	}
	ev, err := p.one(base, k, mapped, doc, doc)
	if err != nil {
		return nil, err
	}
	return []provider.Decoded{{Event: ev, Key: key(ev, doc, k)}}, nil
}

// combined decodes a payment of several orders at once: one event an order.
func (p *Provider) combined(base event.Event, k kind, doc, subs provider.Value) (out []provider.Decoded, err error) {
	subs.Each(func(_ string, sub provider.Value) bool {
		var ev event.Event
		if ev, err = p.one(base, k, true, doc, sub); err != nil {
			return false
		}
		// One id stands for all of them, so each needs more to be told by.
		d := provider.Decoded{Event: ev, Key: base.ProviderEvent.ID, Item: sub.Raw()}
		d.Key += "/" + sub.Member("transaction_id").TextOr("") + "/" + sub.Member("out_trade_no").TextOr("")
		out = append(out, d)
		return true
	})
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%w: sub_orders is empty", provider.ErrMalformed)
	}
	return out, err
}

// key is the provider key: the id, or what names the fact where there is none.
func key(ev event.Event, doc provider.Value, k kind) string {
	switch {
	case ev.ProviderEvent.ID != "":
		return ev.ProviderEvent.ID
	case ev.Refund != nil:
		return ev.Refund.ProviderRef + "/" + doc.Member(k.state).TextOr("")
	case ev.Payment != nil:
		return ev.Payment.ProviderRef + "/" + doc.Member(k.state).TextOr("")
	default:
		return ""
	}
}

// checkIdentity refuses notices for others. What is mapped must say whom it is
// for; of other notices the APIv3 key that opened them says it where they do not.
func (p *Provider) checkIdentity(doc provider.Value, k kind, mapped bool) error {
	mchid, found := firstText(doc, "combine_mchid", "sp_mchid", "mchid")
	if p.options.MchID == "" || (found && mchid != p.options.MchID) || (mapped && !found) {
		return provider.Refuse(provider.ReasonIdentity, "the merchant is not the configured one")
	}
	appid, found := firstText(doc, "combine_appid", "sp_appid", "appid")
	if p.options.AppID != "" && ((found && appid != p.options.AppID) || (mapped && !found && !k.refund())) {
		return provider.Refuse(provider.ReasonIdentity, "the application is not the configured one")
	}
	return nil
}

// one decodes a notice, or one of the orders of a combined one: order holds what
// is the order's own, and is doc itself where there is only one.
func (p *Provider) one(ev event.Event, k kind, mapped bool, doc, order provider.Value) (event.Event, error) {
	sub, found := firstText(order, "sub_mchid")
	if p.options.SubMchID != "" && (sub != p.options.SubMchID) && (mapped || found) {
		return event.Event{}, provider.Refuse(provider.ReasonIdentity, "the sub-merchant is not the configured one")
	}
	ev.Merchant.App, _ = firstText(doc, "combine_appid", "sp_appid", "appid")
	if ev.Merchant.Account = sub; !found {
		if ev.Merchant.Account, found = firstText(order, "mchid"); !found {
			ev.Merchant.Account, _ = firstText(doc, "sp_mchid", "combine_mchid")
		}
	}
	if p.options.CustomerRef != "" {
		ev.Merchant.CustomerRef = beside(&ev, order.At(p.options.CustomerRef), event.LeftOutCustomerRef)
	}
	if !mapped || !k.agrees(order) {
		return ev, nil
	}
	for _, name := range []string{"out_trade_no", "transaction_id"} {
		if order.Member(name).Unreadable() {
			return event.Event{}, fmt.Errorf("%w: %s is not a text", provider.ErrMalformed, name)
		}
	}
	payment := &event.Payment{
		OrderRef:    order.Member("out_trade_no").TextOr(""),
		ProviderRef: order.Member("transaction_id").TextOr(""),
		Method:      order.Member("trade_type").TextOr(""),
	}
	ev.Type, ev.Payment = k.typ, payment
	setTime(&ev, order.Member("success_time"))
	var err error
	payment.Amount, err = total(order)
	if err != nil && ev.Type == event.PaymentSucceeded {
		return event.Event{}, err
	}
	if err != nil { // Of a refund or a failure it decides nothing.
		ev.LeftOut = append(ev.LeftOut, event.LeftOutAmount)
	}
	if k.refund() {
		return refund(ev, order)
	}
	switch {
	case ev.Type == event.PaymentFailed:
		payment.Failure = &event.Failure{
			Code:    order.Member(k.state).TextOr(""),
			Message: order.Member("trade_state_desc").TextOr(""),
		}
	case payment.ProviderRef == "" || payment.Amount == nil:
		// The reference names the capture, and the amount is what it is about.
		return event.Event{}, fmt.Errorf("%w: the payment has no transaction_id or no amount", provider.ErrMalformed)
	}
	return ev, nil
}

// agrees reports whether the notice says the same as its event_type.
func (k kind) agrees(order provider.Value) bool {
	return slices.Contains(k.words, order.Member(k.state).TextOr(""))
}

// refund fills in what a refund notice says.
func refund(ev event.Event, doc provider.Value) (event.Event, error) {
	amount, err := money(doc, "/amount/refund")
	if err != nil {
		return event.Event{}, err
	}
	ev.Refund = &event.Refund{
		OrderRef:    beside(&ev, doc.Member("out_refund_no"), event.LeftOutRefundOrderRef),
		ProviderRef: doc.Member("refund_id").TextOr(""),
		Amount:      amount,
	}
	if ev.Refund.ProviderRef == "" || (amount == nil && ev.Type == event.RefundSucceeded) {
		return event.Event{}, fmt.Errorf("%w: the refund has no refund_id or no amount", provider.ErrMalformed)
	}
	ev.Payment.ParentRef = ev.Payment.ProviderRef
	return ev, nil
}

// total is the amount of the order. Combined orders have a name of their own for it.
func total(order provider.Value) (*event.Money, error) {
	m, err := money(order, "/amount/total")
	if m == nil && err == nil {
		m, err = money(order, "/amount/total_amount")
	}
	return m, err
}

// money reads an integer in the smallest unit; nil where there is none. Its currency
// stands beside it, if anywhere: notices from outside of China name theirs, refunds too.
func money(v provider.Value, pointer string) (*event.Money, error) {
	number, code := v.At(pointer), v.At("/amount/currency")
	if number.Kind() <= provider.Null {
		return nil, nil //nolint:nilnil // An amount that is not told is nil in the event.
	}
	if code.Unreadable() {
		return nil, fmt.Errorf("%w: the currency is not a text", provider.ErrMalformed)
	}
	minor, ok := number.Int64()
	if !ok || minor < 0 {
		return nil, fmt.Errorf("%w: %s is not an amount", provider.ErrMalformed, pointer)
	}
	m, err := event.FromMinor(minor, cmp.Or(code.TextOr(""), currency))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", provider.ErrMalformed, pointer, err)
	}
	return &m, nil
}

// beside reads a text that decides nothing. One that cannot be read is left out.
func beside(ev *event.Event, v provider.Value, field string) string {
	if v.Unreadable() {
		ev.LeftOut = append(ev.LeftOut, field)
	}
	return v.TextOr("")
}

// setTime takes a time where there is one.
func setTime(ev *event.Event, v provider.Value) {
	if v.Kind() <= provider.Null {
		return
	}
	at, err := time.Parse(time.RFC3339, v.TextOr(""))
	if err != nil {
		ev.LeftOut = append(ev.LeftOut, event.LeftOutOccurredAt)
		return
	}
	ev.OccurredAt = at.UTC().Truncate(time.Millisecond)
}

// firstText returns the first of the members that is a text and not empty.
func firstText(v provider.Value, names ...string) (string, bool) {
	for _, name := range names {
		if s, ok := v.Member(name).Text(); ok && s != "" {
			return s, true
		}
	}
	return "", false
}
