package alipay

import (
	"errors"
	"fmt"
	"net/url"
	"unicode/utf8"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// tradeNotice is the notify_type that tells of a trade.
const tradeNotice = "trade_status_sync"

// method is the same for every trade that Alipay settles itself.
const method = "alipay_wallet"

// status is what a trade_status means.
type status struct {
	// plain is its type, and refund its type in a notice that shows that money went
	// back: Alipay has no status of its own for that.
	plain, refund event.Type
	// final says that Alipay will not change the trade any more.
	final bool
}

var statuses = map[string]status{
	"WAIT_BUYER_PAY": {plain: event.PaymentPending, refund: event.PaymentPending},
	"TRADE_SUCCESS":  {plain: event.PaymentSucceeded, refund: event.RefundSucceeded},
	// Nothing can be refunded any more: what was refunded before was told before.
	"TRADE_FINISHED": {plain: event.PaymentSucceeded, refund: event.PaymentSucceeded, final: true},
	// Closed means that nobody paid in time, or that all of it was refunded.
	"TRADE_CLOSED": {plain: event.PaymentClosed, refund: event.RefundSucceeded},
}

// Decode implements provider.Provider.
func (p *Provider) Decode(_ *provider.Callback, v *provider.Verified) ([]provider.Decoded, error) {
	n, ok := v.Parsed.(*notice)
	if !ok {
		return nil, errors.New("alipay: decode: the proof is not of this provider")
	}
	if err := p.checkIdentity(n); err != nil {
		return nil, err
	}
	ev, err := p.decode(n)
	if err != nil {
		return nil, err
	}
	return []provider.Decoded{{Event: ev, Key: ev.ProviderEvent.ID}}, nil
}

// checkIdentity refuses notices for others. A message to the application gateway
// need not name a seller, a trade notice must.
func (p *Provider) checkIdentity(n *notice) error {
	if p.options.AppID == "" || n.form.Value(paramAppID) != p.options.AppID {
		return provider.Refuse(provider.ReasonIdentity, "app_id is not the configured one")
	}
	seller := n.form.Value(paramSellerID)
	if p.options.SellerID == "" || seller == p.options.SellerID {
		return nil
	}
	if seller != "" || n.form.Value(paramNotifyType) == tradeNotice {
		return provider.Refuse(provider.ReasonIdentity, "seller_id is not the configured one")
	}
	return nil
}

func (p *Provider) decode(n *notice) (event.Event, error) {
	r := reader{n: n}
	id := r.text(paramNotifyID)
	ev := event.Event{
		Type:          event.Unmapped,
		ProviderEvent: event.ProviderEvent{ID: id, IDAuthenticated: id != ""},
		Merchant:      event.Merchant{Account: r.text(paramSellerID), App: r.text(paramAppID)},
		Authenticity:  event.Signature,
		Completeness:  event.Full,
	}
	if p.options.Live != nil {
		ev.Live = provider.Live(*p.options.Live)
	}
	if p.options.CustomerRef != "" {
		ev.Merchant.CustomerRef = p.customerRef(r.beside(p.options.CustomerRef, event.LeftOutCustomerRef))
	}
	kind := r.text(paramNotifyType)
	word := r.text(paramStatus)
	st, known := statuses[word]
	switch {
	case kind == tradeNotice && known:
		ev.ProviderEvent.Type = kind + "/" + word
		trade(&r, &ev, st, word)
	case kind != "" && word != "":
		ev.ProviderEvent.Type = kind + "/" + word
	case kind != "":
		ev.ProviderEvent.Type = kind
	default:
		if ev.ProviderEvent.Type = r.text(paramMsgMethod); ev.ProviderEvent.Type == "" {
			ev.ProviderEvent.Type = r.text(paramMethod)
		}
	}
	ev.LeftOut = r.leftOut
	return ev, r.err
}

// trade fills in what a trade notice says.
func trade(r *reader, ev *event.Event, st status, word string) {
	payment := &event.Payment{
		OrderRef:    r.text(paramOutTradeNo),
		ProviderRef: r.text(paramTradeNo),
		Method:      method,
		Final:       st.final,
	}
	if payment.ProviderRef == "" {
		// It names the capture: without it two notices of one payment would count twice.
		r.fail(fmt.Errorf("%w: the trade has no trade_no", provider.ErrMalformed))
		return
	}
	ev.Payment = payment
	total := r.yuan(paramRefundFee)
	if total != nil && total.Minor > 0 {
		payment.RefundedTotal = total
	}
	wentBack := payment.RefundedTotal != nil || r.has(paramRefunded)
	ev.Type = st.plain
	if wentBack || (word == "TRADE_CLOSED" && r.has(paramPaid)) {
		ev.Type = st.refund
	}
	var err error
	if payment.Amount, err = r.amount(paramTotal); err != nil {
		r.leaveOut(event.LeftOutAmount)
	}
	switch ev.Type {
	case event.PaymentSucceeded:
		if payment.Amount == nil {
			r.fail(fmt.Errorf("%w: the trade was paid without a total_amount that can be read", provider.ErrMalformed))
		}
		ev.OccurredAt = r.time(paramPaid)
	case event.RefundSucceeded:
		// What was paid is said here as well, for whoever never saw the notice of the
		// payment. The order still waits for that one before it counts as paid.
		payment.Captured = payment.Amount
		payment.ParentRef = payment.ProviderRef
		if payment.RefundedTotal == nil && word == "TRADE_CLOSED" {
			// A trade that was paid is closed when all of it has gone back.
			payment.RefundedTotal = payment.Amount
		}
		if payment.RefundedTotal == nil {
			ev.Completeness = event.NeedsFetch
		}
		ev.Refund = &event.Refund{OrderRef: r.beside(paramOutBizNo, event.LeftOutRefundOrderRef)}
		if ev.Refund.OrderRef == "" {
			ev.Refund.OrderRef = r.beside(paramOutRequest, event.LeftOutRefundOrderRef)
		}
		if ev.OccurredAt = r.time(paramRefunded); ev.OccurredAt.IsZero() {
			ev.OccurredAt = r.time(paramClosed)
		}
	case event.PaymentClosed:
		ev.OccurredAt = r.time(paramClosed)
	default:
		ev.OccurredAt = r.time(paramCreated)
	}
}

// customerRef undoes the merchant's own encoding. What does not decode was not
// encoded.
func (p *Provider) customerRef(value string) string {
	if !p.options.decodesCustomerRef() {
		return value
	}
	decoded, err := url.QueryUnescape(value)
	if err != nil || !utf8.ValidString(decoded) {
		return value
	}
	return decoded
}
