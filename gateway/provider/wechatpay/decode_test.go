package wechatpay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/wechatpay"
	"github.com/paybell/paybell/streams/event"
)

const payerID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"

// paid is the notice of a payment, decrypted. A change to nil takes a member away.
func paid(changes object) object {
	return merged(object{
		"mchid": "1900000001", "appid": "wx0000000000000001", "out_trade_no": "A1001", "transaction_id": "4200000001",
		"trade_type": "JSAPI", "trade_state": "SUCCESS", "trade_state_desc": "paid", "bank_type": "OTHERS", "attach": "cust-7",
		"success_time": "2026-03-04T13:06:00+08:00", "payer": object{"openid": payerID},
		"amount": object{"total": 8800, "payer_total": 8700, "currency": "CNY", "payer_currency": "CNY"},
	}, changes)
}

// returned is the notice of a refund, decrypted.
func returned(changes object) object {
	return merged(object{
		"mchid": "1900000001", "out_trade_no": "A1001", "transaction_id": "4200000001", "out_refund_no": "R1",
		"refund_id": "5000000001", "refund_status": "SUCCESS", "success_time": "2026-03-04T14:00:00+08:00",
		"user_received_account": "somebody's card 0403",
		"amount":                object{"total": 8800, "refund": 800, "payer_total": 8700, "payer_refund": 790},
	}, changes)
}

func merged(base, changes object) object {
	for name, value := range changes {
		if value == nil {
			delete(base, name)
		} else {
			base[name] = value
		}
	}
	return base
}

func TestPayment(t *testing.T) {
	p, s := account(t, options(t))
	ds := believed(t, p, callback(t, s, envelope(t, "TRANSACTION.SUCCESS", paid(nil))))
	if len(ds) != 1 || ds[0].Key != "e-1" || ds[0].Item != nil {
		t.Fatalf("decoded as %+v", ds)
	}
	e := ds[0].Event
	if e.Type != event.PaymentSucceeded || e.ProviderEvent != (event.ProviderEvent{ID: "e-1", IDAuthenticated: true, Type: "TRANSACTION.SUCCESS"}) {
		t.Errorf("%s of %+v", e.Type, e.ProviderEvent)
	}
	if want := (event.Merchant{Account: "1900000001", App: "wx0000000000000001", CustomerRef: "cust-7"}); e.Merchant != want {
		t.Errorf("merchant %+v, want %+v", e.Merchant, want)
	}
	pay := e.Payment
	if pay.OrderRef != "A1001" || pay.ProviderRef != "4200000001" || pay.Method != "JSAPI" || pay.Final || pay.Failure != nil {
		t.Errorf("payment %+v", pay)
	}
	if want := (event.Money{Value: "88.00", Minor: 8800, Exponent: 2, Currency: "CNY"}); *pay.Amount != want {
		t.Errorf("amount %+v, want %+v", *pay.Amount, want)
	}
	if want := time.Date(2026, 3, 4, 5, 6, 0, 0, time.UTC); !e.OccurredAt.Equal(want) {
		t.Errorf("occurred at %v, want %v", e.OccurredAt, want)
	}
	if holds(t, e, payerID) {
		t.Error("the event holds the payer's openid")
	}
}

func TestRefund(t *testing.T) {
	p, s := account(t, options(t))
	e := believed(t, p, callback(t, s, envelope(t, "REFUND.SUCCESS", returned(nil))))[0].Event
	if e.Type != event.RefundSucceeded || !e.OccurredAt.Equal(time.Date(2026, 3, 4, 6, 0, 0, 0, time.UTC)) {
		t.Errorf("%s at %v", e.Type, e.OccurredAt)
	}
	if e.Payment.OrderRef != "A1001" || e.Payment.ParentRef != "4200000001" || e.Payment.RefundedTotal != nil {
		t.Errorf("payment %+v", e.Payment)
	}
	if e.Refund.OrderRef != "R1" || e.Refund.ProviderRef != "5000000001" || e.Refund.Amount.Minor != 800 || e.Refund.Amount.Currency != "CNY" {
		t.Errorf("refund %+v", e.Refund)
	}
	if holds(t, e, "0403") {
		t.Error("the event holds the payer's account")
	}
}

func TestEventTypes(t *testing.T) {
	for _, c := range []struct {
		name, eventType string
		plain           object
		want            event.Type
	}{
		{"paid", "TRANSACTION.SUCCESS", paid(nil), event.PaymentSucceeded},
		{"paid, and since refunded", "TRANSACTION.SUCCESS", paid(object{"trade_state": "REFUND"}), event.Unmapped},
		{"called paid, and is not", "TRANSACTION.SUCCESS", paid(object{"trade_state": "NOTPAY"}), event.Unmapped},
		{"called paid, and says nothing", "TRANSACTION.SUCCESS", paid(object{"trade_state": nil}), event.Unmapped},
		{"failed", "TRANSACTION.FAIL", paid(object{"trade_state": "PAYERROR", "success_time": nil}), event.PaymentFailed},
		{"deduction failed", "TRANSACTION.FAIL", paid(object{"trade_state": "PAY_FAIL", "success_time": nil, "amount": nil}), event.PaymentFailed},
		{"called failed, and is not", "TRANSACTION.FAIL", paid(nil), event.Unmapped},
		{"refunded", "REFUND.SUCCESS", returned(nil), event.RefundSucceeded},
		{"called refunded, and is not", "REFUND.SUCCESS", returned(object{"refund_status": "PROCESSING"}), event.Unmapped},
		{"refund stuck", "REFUND.ABNORMAL", returned(object{"refund_status": "ABNORMAL", "success_time": nil}), event.RefundFailed},
		{"refund closed", "REFUND.CLOSED", returned(object{"refund_status": "CLOSED", "success_time": nil}), event.RefundFailed},
		{"refund closed, and is not", "REFUND.CLOSED", returned(nil), event.Unmapped},
		{"pay score", "PAYSCORE.USER_PAID", object{"mchid": "1900000001"}, event.Unmapped},
		{"coupon, names no merchant", "COUPON.USE", object{"coupon_id": "1"}, event.Unmapped},
		{"transfer", "MCHTRANSFER.BILL.FINISHED", object{"mchid": "1900000001"}, event.Unmapped},
		{"no type at all", "", paid(nil), event.Unmapped},
		{"type in lower case", "transaction.success", paid(nil), event.Unmapped},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, s := account(t, options(t))
			ds := believed(t, p, callback(t, s, envelope(t, c.eventType, c.plain)))
			e := ds[0].Event
			if len(ds) != 1 || e.Type != c.want || e.ProviderEvent.Type != c.eventType || ds[0].Key != "e-1" {
				t.Errorf("%s of %q with key %q, want %s", e.Type, e.ProviderEvent.Type, ds[0].Key, c.want)
			}
			if c.want == event.Unmapped && (e.Payment != nil || e.MovesMoney()) {
				t.Errorf("unmapped with a payment %+v", e.Payment)
			}
			if c.plain["success_time"] == nil && !e.OccurredAt.Equal(time.Date(2026, 3, 4, 5, 6, 5, 0, time.UTC)) {
				t.Errorf("occurred at %v, want the notice's create_time", e.OccurredAt)
			}
			if e.Type == event.PaymentFailed && (e.Payment.Failure.Code != c.plain["trade_state"] || e.Payment.Failure.Message != "paid") {
				t.Errorf("failure %+v", e.Payment.Failure)
			}
		})
	}
}

func TestMalformedNotices(t *testing.T) {
	amount := func(total any) object { return object{"amount": object{"total": total, "currency": "CNY"}} }
	for _, c := range []struct {
		name, eventType string
		plain           object
	}{
		{"no amount", "TRANSACTION.SUCCESS", paid(object{"amount": nil})},
		{"a fraction of a fen", "TRANSACTION.SUCCESS", paid(amount(88.5))},
		{"an amount as text", "TRANSACTION.SUCCESS", paid(amount("8800"))},
		{"a negative amount", "TRANSACTION.SUCCESS", paid(amount(-1))},
		{"an amount too large", "TRANSACTION.SUCCESS", paid(amount(1e30))},
		{"a currency nobody has", "TRANSACTION.SUCCESS", paid(object{"amount": object{"total": 1, "currency": "RENMINBI"}})},
		{"no transaction", "TRANSACTION.SUCCESS", paid(object{"transaction_id": nil})},
		{"a currency that is a number", "TRANSACTION.SUCCESS", paid(object{"amount": object{"total": 1, "currency": 156}})},
		{"a currency that Unicode makes one", "TRANSACTION.SUCCESS", paid(object{"amount": object{"total": 1, "currency": "uſd"}})},
		{"a refund in a currency that is a number", "REFUND.SUCCESS", returned(object{"amount": object{"total": 8800, "refund": 800, "currency": 156}})},
		{"an order that is a number", "TRANSACTION.SUCCESS", paid(object{"out_trade_no": 7})},
		{"a refund of nothing", "REFUND.SUCCESS", returned(object{"amount": object{"total": 8800}})},
		{"a refund without an id", "REFUND.SUCCESS", returned(object{"refund_id": nil})},
		{"a stuck refund without an id", "REFUND.ABNORMAL", returned(object{"refund_id": nil, "refund_status": "ABNORMAL"})},
		{"no orders in a combined payment", "TRANSACTION.SUCCESS", object{"combine_mchid": "1900000001", "combine_appid": "wx0000000000000001", "sub_orders": []object{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, s := account(t, options(t))
			malformed(t, p, callback(t, s, envelope(t, c.eventType, c.plain)))
		})
	}
}

// decoded is the one event of a notice.
func decoded(t *testing.T, word string, plain object) event.Event {
	t.Helper()
	p, s := account(t, options(t))
	return believed(t, p, callback(t, s, envelope(t, word, plain)))[0].Event
}

// TestRefundInAnotherCurrency: notices from outside of China name theirs.
func TestRefundInAnotherCurrency(t *testing.T) {
	amount := object{"total": 8800, "currency": "HKD", "refund": 800, "payer_total": 8700, "payer_refund": 790, "payer_currency": "CNY"}
	e := decoded(t, "REFUND.SUCCESS", returned(object{"amount": amount}))
	if e.Refund.Amount.String() != "8.00 HKD" || e.Payment.Amount.String() != "88.00 HKD" {
		t.Errorf("refunded %s of %s", e.Refund.Amount, e.Payment.Amount)
	}
}

// TestLeftOut: a field beside the matter costs only itself.
func TestLeftOut(t *testing.T) {
	for _, c := range []struct {
		name, word string
		notice     object
		want       event.Type
		left       string
	}{
		{"a time that is none", "TRANSACTION.SUCCESS", paid(object{"success_time": "today"}), event.PaymentSucceeded, event.LeftOutOccurredAt},
		{"the name of a refund", "REFUND.SUCCESS", returned(object{"out_refund_no": 7}), event.RefundSucceeded, event.LeftOutRefundOrderRef},
		{"what was paid, in a refund", "REFUND.SUCCESS", returned(object{"amount": object{"total": "8800", "refund": 800}}), event.RefundSucceeded, event.LeftOutAmount},
		{"what was not paid", "TRANSACTION.FAIL", paid(object{"trade_state": "PAY_FAIL", "amount": object{"total": 1.5}}), event.PaymentFailed, event.LeftOutAmount},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := decoded(t, c.word, c.notice)
			if e.Type != c.want || strings.Join(e.LeftOut, " ") != c.left {
				t.Errorf("%s without %v, want %s without %s", e.Type, e.LeftOut, c.want, c.left)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	for _, c := range []struct {
		name, eventType string
		plain           object
		set             func(*wechatpay.Options)
		refused         bool
		account         string
	}{
		{name: "another merchant", eventType: "TRANSACTION.SUCCESS", plain: paid(object{"mchid": "1900000002"}), refused: true},
		{name: "no merchant", eventType: "TRANSACTION.SUCCESS", plain: paid(object{"mchid": nil}), refused: true},
		{name: "another merchant's score", eventType: "PAYSCORE.USER_PAID", plain: object{"mchid": "1900000002"}, refused: true},
		{name: "another application", eventType: "TRANSACTION.SUCCESS", plain: paid(object{"appid": "wx2"}), refused: true},
		{name: "no application", eventType: "TRANSACTION.SUCCESS", plain: paid(object{"appid": nil}), refused: true},
		{name: "any application where none is configured", eventType: "TRANSACTION.SUCCESS", plain: paid(object{"appid": "wx2"}), set: func(o *wechatpay.Options) { o.AppID = "" }, account: "1900000001"},
		{name: "no merchant configured", eventType: "TRANSACTION.SUCCESS", plain: paid(nil), set: func(o *wechatpay.Options) { o.MchID = "" }, refused: true},
		{name: "refund of another merchant", eventType: "REFUND.SUCCESS", plain: returned(object{"mchid": "1900000002"}), refused: true},
		{name: "service provider", eventType: "TRANSACTION.SUCCESS", plain: partner(nil), account: "1900000009"},
		{name: "another service provider", eventType: "TRANSACTION.SUCCESS", plain: partner(object{"sp_mchid": "1900000002"}), refused: true},
		{name: "the service provider is not us, the sub-merchant's number is", eventType: "TRANSACTION.SUCCESS", plain: partner(object{"sp_mchid": "1900000002", "mchid": "1900000001"}), refused: true},
		{name: "the sub-merchant that is wanted", eventType: "TRANSACTION.SUCCESS", plain: partner(nil), set: func(o *wechatpay.Options) { o.SubMchID = "1900000009" }, account: "1900000009"},
		{name: "another sub-merchant than is wanted", eventType: "TRANSACTION.SUCCESS", plain: partner(nil), set: func(o *wechatpay.Options) { o.SubMchID = "1900000008" }, refused: true},
		{name: "no sub-merchant where one is wanted", eventType: "TRANSACTION.SUCCESS", plain: paid(nil), set: func(o *wechatpay.Options) { o.SubMchID = "1900000008" }, refused: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t)
			if c.set != nil {
				c.set(&o)
			}
			p, s := account(t, o)
			cb := callback(t, s, envelope(t, c.eventType, c.plain))
			if c.refused {
				refused(t, p, cb, provider.ReasonIdentity)
				return
			}
			if got := believed(t, p, cb)[0].Event.Merchant.Account; got != c.account {
				t.Errorf("account %q, want %q", got, c.account)
			}
		})
	}
}

// partner is a payment that a service provider took for one of its merchants.
func partner(changes object) object {
	return merged(paid(object{
		"mchid": nil, "appid": nil, "sp_mchid": "1900000001", "sp_appid": "wx0000000000000001",
		"sub_mchid": "1900000009", "sub_appid": "wx0000000000000009",
	}), changes)
}

func TestCombinedPayment(t *testing.T) {
	p, s := account(t, options(t))
	order := func(ref, transaction string, total int) object {
		return object{
			"mchid": "1900000001", "sub_mchid": "190000" + ref, "out_trade_no": ref, "transaction_id": transaction, "attach": "cust-" + ref,
			"trade_state": "SUCCESS", "trade_type": "APP", "success_time": "2026-03-04T13:06:00+08:00",
			"amount": object{"total_amount": total, "payer_amount": total, "currency": "CNY"},
		}
	}
	plain := object{
		"combine_mchid": "1900000001", "combine_appid": "wx0000000000000001", "combine_out_trade_no": "C1",
		"combine_payer_info": object{"openid": payerID}, "sub_orders": []object{order("A1", "4201", 100), order("A2", "4202", 250)},
	}
	ds := believed(t, p, callback(t, s, envelope(t, "TRANSACTION.SUCCESS", plain)))
	if len(ds) != 2 {
		t.Fatalf("%d events, want 2", len(ds))
	}
	for i, want := range []struct {
		key, ref, account string
		minor             int64
	}{{"e-1/4201/A1", "A1", "190000A1", 100}, {"e-1/4202/A2", "A2", "190000A2", 250}} {
		d := ds[i]
		if d.Key != want.key || d.Event.Type != event.PaymentSucceeded || d.Event.OrderRef() != want.ref ||
			d.Event.Payment.Amount.Minor != want.minor || d.Event.Merchant.Account != want.account || d.Event.Merchant.CustomerRef != "cust-"+want.ref {
			t.Errorf("event %d is %q %+v %+v", i, d.Key, d.Event, d.Event.Payment)
		}
		if len(d.Item) == 0 || holds(t, d.Event, payerID) {
			t.Errorf("event %d has item %q", i, d.Item)
		}
	}
	plain["combine_mchid"] = "1900000002"
	refused(t, p, callback(t, s, envelope(t, "TRANSACTION.SUCCESS", plain)), provider.ReasonIdentity)
}

func TestKeyWithoutID(t *testing.T) {
	p, s := account(t, options(t))
	for _, c := range []struct {
		eventType, want string
		plain           object
	}{
		{"TRANSACTION.SUCCESS", "4200000001/SUCCESS", paid(nil)},
		{"REFUND.SUCCESS", "5000000001/SUCCESS", returned(nil)},
		{"PAYSCORE.USER_PAID", "", object{"mchid": "1900000001"}},
	} {
		body := envelope(t, c.eventType, c.plain)
		delete(body, "id")
		d := believed(t, p, callback(t, s, body))[0]
		if d.Key != c.want || d.Event.ProviderEvent.IDAuthenticated {
			t.Errorf("%s: key %q, want %q", c.eventType, d.Key, c.want)
		}
	}
}

// TestRefundFoldsInAnyOrder: a refund that was stuck and then went through is one.
func TestRefundFoldsInAnyOrder(t *testing.T) {
	p, s := account(t, options(t))
	var events []event.Event
	for _, body := range []object{
		envelope(t, "TRANSACTION.SUCCESS", paid(nil)),
		envelope(t, "REFUND.ABNORMAL", returned(object{"refund_status": "ABNORMAL", "success_time": nil})),
		envelope(t, "REFUND.SUCCESS", returned(nil)),
	} {
		e := believed(t, p, callback(t, s, body))[0].Event
		e.ID, e.Account, e.Namespace = e.ProviderEvent.Type, "wechat-main", "shop"
		events = append(events, e)
	}
	for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		var o event.Order
		for _, i := range order {
			o.Apply(&events[i])
		}
		if o.Status() != event.StatusPartiallyRefunded || o.Refunded().Minor != 800 || o.Captured().Minor != 8800 {
			t.Errorf("%v: %s, captured %s, refunded %s", order, o.Status(), o.Captured(), o.Refunded())
		}
	}
}
