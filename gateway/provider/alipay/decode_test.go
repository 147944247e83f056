package alipay_test

import (
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

func TestTradeStatuses(t *testing.T) {
	paid, back := time.Date(2026, 3, 4, 5, 6, 0, 0, time.UTC), time.Date(2026, 3, 4, 6, 0, 0, 500e6, time.UTC)
	for _, c := range []struct {
		name     string
		changes  form
		want     event.Type
		at       time.Time
		refunded string
		captured string
		final    bool
		fetch    bool
	}{
		{name: "waiting for the buyer", changes: form{"trade_status": "WAIT_BUYER_PAY", "gmt_payment": "-"}, want: event.PaymentPending, at: time.Date(2026, 3, 4, 5, 5, 0, 0, time.UTC)},
		{name: "paid", want: event.PaymentSucceeded, at: paid},
		{name: "paid, nothing refunded", changes: form{"refund_fee": "0.00"}, want: event.PaymentSucceeded, at: paid},
		{name: "paid, date unreadable", changes: form{"gmt_payment": "today"}, want: event.PaymentSucceeded},
		{name: "partly refunded", changes: form{"gmt_refund": "2026-03-04 14:00:00.500", "refund_fee": "8.00", "out_biz_no": "R1"}, want: event.RefundSucceeded, at: back, refunded: "8.00", captured: "88.00"},
		{name: "partly refunded, no date", changes: form{"refund_fee": "8.00"}, want: event.RefundSucceeded, refunded: "8.00", captured: "88.00"},
		{name: "refunded, amount not told", changes: form{"gmt_refund": "2026-03-04 14:00:00.500"}, want: event.RefundSucceeded, at: back, captured: "88.00", fetch: true},
		{name: "finished", changes: form{"trade_status": "TRADE_FINISHED"}, want: event.PaymentSucceeded, at: paid, final: true},
		{name: "finished after a partial refund", changes: form{"trade_status": "TRADE_FINISHED", "refund_fee": "8.00"}, want: event.PaymentSucceeded, at: paid, refunded: "8.00", final: true},
		{name: "closed unpaid", changes: form{"trade_status": "TRADE_CLOSED", "gmt_payment": "-", "gmt_close": "2026-03-04 14:00:00.5"}, want: event.PaymentClosed, at: back},
		{name: "closed after payment", changes: form{"trade_status": "TRADE_CLOSED", "gmt_close": "2026-03-04 14:00:00.5"}, want: event.RefundSucceeded, at: back, refunded: "88.00", captured: "88.00"},
		{name: "closed with a refund", changes: form{"trade_status": "TRADE_CLOSED", "gmt_payment": "-", "refund_fee": "88.00", "gmt_refund": "2026-03-04 14:00:00.500"}, want: event.RefundSucceeded, at: back, refunded: "88.00", captured: "88.00"},
		{name: "a status from the future", changes: form{"trade_status": "TRADE_DREAMT"}, want: event.Unmapped},
		{name: "another kind of notice", changes: form{"notify_type": "batch_refund_notify"}, want: event.Unmapped},
		{name: "no kind of notice", changes: form{"notify_type": "-"}, want: event.Unmapped},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := account(t, options(t))
			f := trade(c.changes)
			d := believed(t, p, f.signed(t, keyNamed(t, "usual"), f.canonical()))
			e := d.Event
			if e.Type != c.want || !e.OccurredAt.Equal(c.at) {
				t.Errorf("%s at %v, want %s at %v", e.Type, e.OccurredAt, c.want, c.at)
			}
			if d.Key != f["notify_id"] {
				t.Errorf("key %q, want the notify_id", d.Key)
			}
			if c.want == event.Unmapped {
				if e.Payment != nil {
					t.Errorf("unmapped with a payment %+v", e.Payment)
				}
				return
			}
			if e.ProviderEvent.Type != "trade_status_sync/"+f["trade_status"] {
				t.Errorf("the provider's words are %q", e.ProviderEvent.Type)
			}
			pay := e.Payment
			if pay.OrderRef != "A1001" || pay.ProviderRef != f["trade_no"] || value(pay.Amount) != "88.00" {
				t.Errorf("payment %+v", pay)
			}
			if value(pay.RefundedTotal) != c.refunded || value(pay.Captured) != c.captured || pay.Final != c.final {
				t.Errorf("refunded %s, captured %s, final %v", value(pay.RefundedTotal), value(pay.Captured), pay.Final)
			}
			if got := e.Completeness == event.NeedsFetch; got != c.fetch {
				t.Errorf("completeness %s", e.Completeness)
			}
			if e.Type == event.RefundSucceeded {
				if e.Refund.OrderRef != f["out_biz_no"] || e.Refund.Amount != nil || pay.ParentRef != f["trade_no"] {
					t.Errorf("refund %+v of %+v", e.Refund, pay)
				}
			}
		})
	}
}

func value(m *event.Money) string {
	if m == nil {
		return ""
	}
	return m.Value
}

func TestMalformedTrades(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes form
	}{
		{"fractions of a fen", form{"total_amount": "88.001"}},
		{"an amount in words", form{"total_amount": "much"}},
		{"an amount with an exponent", form{"total_amount": "1e3"}},
		{"a negative amount", form{"total_amount": "-88.00"}},
		{"an amount too large", form{"total_amount": "99999999999999999999.00"}},
		{"paid without an amount", form{"total_amount": "-"}},
		{"a negative refund", form{"refund_fee": "-1.00"}},
		{"no trade_no", form{"trade_no": "-"}},
		{"a reference that is not UTF-8", form{"out_trade_no": "\xff\xfe"}},
		{"a character set nobody knows", form{"charset": "ebcdic", "out_trade_no": "\xc1\xc2"}},
		{"a reference that is not GBK", form{"charset": "gbk", "out_trade_no": "\xff\xff"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := account(t, options(t))
			f := trade(c.changes)
			cb := callback(f.signed(t, keyNamed(t, "usual"), f.canonical()))
			v, err := p.Verify(cb)
			if err != nil {
				t.Fatalf("Verify: %v", err)
			}
			if ds, err := p.Decode(cb, v); !errors.Is(err, provider.ErrMalformed) {
				t.Errorf("decoded as %+v, %v; want ErrMalformed", ds, err)
			}
		})
	}
}

func TestCharacterSets(t *testing.T) {
	const ref = "订单-1001"
	gbk, err := simplifiedchinese.GBK.NewEncoder().String(ref)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, charset, sent string }{
		{"UTF-8", "utf-8", ref},
		{"UTF-8 in capitals", "UTF-8", ref},
		{"none named", "-", ref},
		{"GBK", "gbk", gbk},
		{"GBK in capitals", "GBK", gbk},
		{"GB2312", "gb2312", gbk},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := account(t, options(t))
			f := trade(form{"charset": c.charset, "out_trade_no": c.sent})
			// The bytes that were sent are the bytes that are signed.
			d := believed(t, p, f.signed(t, keyNamed(t, "usual"), f.canonical()))
			if got := d.Event.OrderRef(); got != ref {
				t.Errorf("order ref %q, want %q", got, ref)
			}
		})
	}
}

func TestCustomerRef(t *testing.T) {
	for _, c := range []struct{ name, param, encoding, sent, want string }{
		{"encoded, as Alipay demands", "passback_params", "", "cust%2D7%2B1+x", "cust-7+1 x"},
		{"not encoded", "passback_params", "", "cust-7", "cust-7"},
		{"cannot be decoded", "passback_params", "", "100%", "100%"},
		{"decodes to no text", "passback_params", "", "%ff%fe", "%ff%fe"},
		{"told that it is not encoded", "passback_params", "none", "cust%2D7", "cust%2D7"},
		{"another parameter is taken as it is", "body", "", "cust%2D7", "cust%2D7"},
		{"another parameter that is encoded", "body", "url", "cust%2D7", "cust-7"},
		{"no parameter configured", "", "", "cust-7", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t)
			o.CustomerRef, o.CustomerRefEncoding = c.param, c.encoding
			p, _ := account(t, o)
			param := c.param
			if param == "" {
				param = "passback_params"
			}
			f := trade(form{param: c.sent})
			d := believed(t, p, f.signed(t, keyNamed(t, "usual"), f.canonical()))
			if got := d.Event.Merchant.CustomerRef; got != c.want {
				t.Errorf("customer ref %q, want %q", got, c.want)
			}
		})
	}
}

func TestLive(t *testing.T) {
	o := options(t)
	live := false
	o.Live = &live
	p, _ := account(t, o)
	f := trade(nil)
	if d := believed(t, p, f.signed(t, keyNamed(t, "usual"), f.canonical())); d.Event.Live == nil || *d.Event.Live {
		t.Errorf("live is %v, want false", d.Event.Live)
	}
}

func TestNoBuyerInEvent(t *testing.T) {
	p, _ := account(t, options(t))
	f := trade(form{"buyer_id": "2088102000000000", "buyer_logon_id": "abc***@example.com", "buyer_open_id": "074a1CcTG1LelxKe4xQC0zgNdId0nxi"})
	d := believed(t, p, f.signed(t, keyNamed(t, "usual"), f.canonical()))
	for _, personal := range []string{f["buyer_id"], f["buyer_logon_id"], f["buyer_open_id"]} {
		if holds(t, d.Event, personal) {
			t.Errorf("the event holds the buyer's %s", personal)
		}
	}
	if !holds(t, d.Event, "A1001") {
		t.Error("the event does not hold the order: this tests nothing")
	}
}

// TestTradesFoldInAnyOrder folds a trade's notices in every order of arrival.
func TestTradesFoldInAnyOrder(t *testing.T) {
	p, _ := account(t, options(t))
	var events []event.Event
	for i, changes := range []form{
		{"trade_status": "WAIT_BUYER_PAY", "gmt_payment": "-"},
		{},
		{"refund_fee": "8.00", "gmt_refund": "2026-03-04 14:00:00", "out_biz_no": "R1"},
		{"refund_fee": "20.00", "gmt_refund": "2026-03-04 15:00:00", "out_biz_no": "R2"},
		{"trade_status": "TRADE_FINISHED", "refund_fee": "20.00"},
	} {
		changes["notify_id"] = "n" + strconv.Itoa(i)
		f := trade(changes)
		e := believed(t, p, f.signed(t, keyNamed(t, "usual"), f.canonical())).Event
		e.ID, e.Account, e.Namespace = f["notify_id"], "alipay-main", "shop"
		events = append(events, e)
	}
	orders := 0
	permute(events, func(events []event.Event) {
		orders++
		var o event.Order
		for i := range events {
			o.Apply(&events[i])
			o.Apply(&events[len(events)-1-i])
		}
		if o.Status() != event.StatusPartiallyRefunded || o.Captured().Value != "88.00" || o.Refunded().Value != "20.00" || !o.Final() {
			t.Fatalf("%s, captured %s, refunded %s, final %v", o.Status(), o.Captured(), o.Refunded(), o.Final())
		}
	})
	if orders != 120 {
		t.Errorf("%d orders of five events, want 120", orders)
	}
}

// TestClosedAfterPayment: with Alipay that is a full refund, and not a closed order.
func TestClosedAfterPayment(t *testing.T) {
	p, _ := account(t, options(t))
	var events []event.Event
	for i, changes := range []form{{}, {"trade_status": "TRADE_CLOSED", "gmt_close": "2026-03-04 14:00:00"}} {
		changes["notify_id"] = "n" + strconv.Itoa(i)
		f := trade(changes)
		e := believed(t, p, f.signed(t, keyNamed(t, "usual"), f.canonical())).Event
		e.ID, e.Account, e.Namespace = f["notify_id"], "alipay-main", "shop"
		events = append(events, e)
	}
	permute(events, func(events []event.Event) {
		var o event.Order
		o.Apply(&events[0])
		o.Apply(&events[1])
		if got := o.Status(); got != event.StatusRefunded || len(o.Conflicts()) != 0 {
			t.Errorf("%s with conflicts %v, want refunded with none", got, o.Conflicts())
		}
	})
}

// permute calls visit with every order of the events.
func permute(events []event.Event, visit func([]event.Event)) {
	var rec func(int)
	rec = func(k int) {
		if k == len(events) {
			visit(events)
			return
		}
		for i := k; i < len(events); i++ {
			events[k], events[i] = events[i], events[k]
			rec(k + 1)
			events[k], events[i] = events[i], events[k]
		}
	}
	rec(0)
}

// TestLeftOut: a field beside the matter costs only itself.
func TestLeftOut(t *testing.T) {
	gb, err := simplifiedchinese.GB18030.NewEncoder().String("用户𠮷")
	if err != nil {
		t.Fatal(err)
	}
	refund := form{"gmt_refund": "2026-03-04 14:00:00.500", "refund_fee": "8.00"}
	with := func(f form, changes form) form {
		out := maps.Clone(f)
		maps.Copy(out, changes)
		return out
	}
	for _, c := range []struct {
		name     string
		changes  form
		want     event.Type
		customer string
		left     string
	}{
		{"a customer in GB18030", form{"charset": "GB18030", "passback_params": gb}, event.PaymentSucceeded, "用户𠮷", ""},
		{"a customer in no character set we know", form{"charset": "big5", "passback_params": gb}, event.PaymentSucceeded, "", event.LeftOutCustomerRef},
		{"a customer that is not UTF-8", form{"passback_params": "\xff\xfe"}, event.PaymentSucceeded, "", event.LeftOutCustomerRef},
		{"a time that is none", form{"gmt_payment": "today"}, event.PaymentSucceeded, "", event.LeftOutOccurredAt},
		{"the name of a refund", with(refund, form{"out_biz_no": "\xff"}), event.RefundSucceeded, "", event.LeftOutRefundOrderRef},
		{"what was paid, in a refund", with(refund, form{"total_amount": "88.005"}), event.RefundSucceeded, "", event.LeftOutAmount},
		{"what will be paid", form{"trade_status": "WAIT_BUYER_PAY", "gmt_payment": "-", "total_amount": "much"}, event.PaymentPending, "", event.LeftOutAmount},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t)
			o.CustomerRef, o.CustomerRefEncoding = "passback_params", "none"
			p, _ := account(t, o)
			f := trade(c.changes)
			e := believed(t, p, f.signed(t, keyNamed(t, "usual"), f.canonical())).Event
			if e.Type != c.want || e.Merchant.CustomerRef != c.customer || strings.Join(e.LeftOut, " ") != c.left {
				t.Errorf("%s for %q without %v, want %s for %q without %s", e.Type, e.Merchant.CustomerRef, e.LeftOut, c.want, c.customer, c.left)
			}
		})
	}
}
