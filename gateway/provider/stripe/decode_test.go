package stripe_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/stripe"
	"github.com/paybell/paybell/streams/event"
)

// decode reads an event whose object is given; the envelope is as Stripe sends it.
func decode(t *testing.T, o stripe.Options, word, object string) (event.Event, error) {
	t.Helper()
	return decodeBody(t, o, `{"id":"evt_1","object":"event","type":"`+word+`","created":1700000000,"livemode":true,"data":{"object":`+object+`}}`)
}

func decodeBody(t *testing.T, o stripe.Options, body string) (event.Event, error) {
	t.Helper()
	p, err := stripe.New(o, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Decode(callback("", body), &provider.Verified{})
	if err != nil {
		if len(got) > 0 {
			t.Errorf("Decode returned both events and %v", err)
		}
		return event.Event{}, err
	}
	if len(got) != 1 {
		t.Fatalf("Decode returned %d events, want 1", len(got))
	}
	return got[0].Event, nil
}

// said is what a test looks at, as text: type, order, payment, parent, amounts.
func said(e event.Event) string {
	money := func(m *event.Money) string {
		if m == nil {
			return "-"
		}
		return m.String()
	}
	parts := []string{string(e.Type)}
	if p := e.Payment; p != nil {
		parts = append(parts, p.OrderRef, p.ProviderRef, p.ParentRef, money(p.Amount), "captured "+money(p.Captured), "refunded "+money(p.RefundedTotal))
	}
	if r := e.Refund; r != nil {
		parts = append(parts, "refund "+r.ProviderRef+" "+money(r.Amount))
	}
	if d := e.Dispute; d != nil {
		parts = append(parts, "dispute "+d.ProviderRef+" "+d.Reason+" "+money(d.Amount))
	}
	if p := e.Payment; p != nil && len(p.RelatedRefs) > 0 {
		parts = append(parts, "also "+strings.Join(p.RelatedRefs, ","))
	}
	if len(e.LeftOut) > 0 {
		parts = append(parts, "left out "+strings.Join(e.LeftOut, ","))
	}
	return strings.Join(parts, "|")
}

func TestDecode(t *testing.T) {
	const (
		pi      = `"id":"pi_1","currency":"usd","metadata":{"order_id":"A1"}`
		ch      = `"id":"ch_1","payment_intent":"pi_1","currency":"usd","metadata":{"order_id":"A1"}`
		alone   = `"id":"ch_1","payment_intent":null,"currency":"usd","metadata":{}`
		re      = `"id":"re_1","charge":"ch_1","payment_intent":"pi_1","currency":"usd","amount":300`
		dp      = `"id":"dp_1","charge":"ch_1","payment_intent":"pi_1","currency":"usd","amount":500,"reason":"fraudulent"`
		cs      = `"id":"cs_1","currency":"usd","amount_total":500,"client_reference_id":"A1","metadata":{}`
		in      = `"id":"in_1","currency":"usd","metadata":{"order_id":"A1"},"amount_paid":500,"amount_due":500`
		nothing = "|captured -|refunded -"
	)
	for _, c := range []struct {
		name, word, object, want string
	}{
		{"intent created", "payment_intent.created", `{` + pi + `,"amount":500}`, "payment.pending|A1|pi_1||5.00 USD" + nothing},
		{"intent processing", "payment_intent.processing", `{` + pi + `,"amount":500}`, "payment.pending|A1|pi_1||5.00 USD" + nothing},
		{"intent needs the payer", "payment_intent.requires_action", `{` + pi + `,"amount":500}`, "payment.action_required|A1|pi_1||5.00 USD" + nothing},
		{"intent authorized", "payment_intent.amount_capturable_updated", `{` + pi + `,"amount":500,"amount_capturable":400}`, "payment.authorized|A1|pi_1||4.00 USD" + nothing},
		{"intent counts what was received", "payment_intent.succeeded", `{` + pi + `,"amount":500,"amount_received":400}`, "payment.succeeded|A1|pi_1||4.00 USD" + nothing},
		{"intent failed", "payment_intent.payment_failed", `{` + pi + `,"amount":500}`, "payment.failed|A1|pi_1||5.00 USD" + nothing},
		{"intent canceled", "payment_intent.canceled", `{` + pi + `,"amount":500}`, "payment.closed|A1|pi_1||5.00 USD" + nothing},

		{"charge captured at once", "charge.succeeded", `{` + ch + `,"amount":500,"amount_captured":500,"captured":true}`, "payment.succeeded|A1|pi_1||5.00 USD" + nothing},
		{"charge of an old API version", "charge.succeeded", `{` + ch + `,"amount":500,"captured":true}`, "payment.succeeded|A1|pi_1||5.00 USD" + nothing},
		{"charge of an old API version captured in part", "charge.captured", `{` + ch + `,"amount":500,"amount_refunded":200,"captured":true}`, "payment.succeeded|A1|pi_1||3.00 USD" + nothing},
		{"charge to be captured later", "charge.succeeded", `{` + ch + `,"amount":500,"amount_captured":0,"captured":false}`, "payment.authorized|A1|pi_1||5.00 USD" + nothing},
		{"charge captured in part", "charge.captured", `{` + ch + `,"amount":500,"amount_captured":200,"captured":true}`, "payment.succeeded|A1|pi_1||2.00 USD" + nothing},
		{"charge without an intent", "charge.succeeded", `{` + alone + `,"amount":500,"amount_captured":500,"captured":true}`, "payment.succeeded||ch_1||5.00 USD" + nothing},
		{"charge with its intent expanded", "charge.pending", `{"id":"ch_1","payment_intent":{"id":"pi_1"},"currency":"usd","amount":500}`, "payment.pending||pi_1||5.00 USD" + nothing},
		{"charge failed", "charge.failed", `{` + ch + `,"amount":500}`, "payment.failed|A1|pi_1||5.00 USD" + nothing},
		{"charge expired", "charge.expired", `{` + ch + `,"amount":500}`, "payment.closed|A1|pi_1||5.00 USD" + nothing},
		{"charge refunded tells a total", "charge.refunded", `{` + ch + `,"amount":500,"amount_refunded":300}`, "refund.succeeded|A1|pi_1|pi_1|-|captured -|refunded 3.00 USD|refund  -"},

		{"charge refunded in part of an old API version", "charge.refunded", `{` + ch + `,"amount":500,"amount_refunded":300,"captured":true}`, "refund.succeeded|A1|pi_1|pi_1|-|captured -|refunded 3.00 USD|refund  -"},
		{"charge refunded of all that was captured at once", "charge.refunded", `{` + ch + `,"amount":500,"amount_captured":500,"amount_refunded":500,"captured":true}`, "refund.succeeded|A1|pi_1|pi_1|-|captured -|refunded 5.00 USD|refund  -"},
		{"charge released before it was captured", "charge.refunded", `{` + ch + `,"amount":500,"amount_captured":0,"amount_refunded":500,"captured":false}`, "unmapped|A1|pi_1|pi_1|-" + nothing},
		{"charge released that does not say how much was captured", "charge.refunded", `{` + ch + `,"amount":500,"amount_captured":null,"amount_refunded":500,"captured":false}`, "unmapped|A1|pi_1|pi_1|-" + nothing},
		{"charge released but for the part that was captured", "charge.refunded", `{` + ch + `,"amount":20675,"amount_captured":20300,"amount_refunded":375,"captured":true}`, "unmapped|A1|pi_1|pi_1|-" + nothing},
		{"charge of which nothing is refunded any more", "charge.refunded", `{` + ch + `,"amount":500,"amount_captured":500,"amount_refunded":0,"captured":true}`, "unmapped|A1|pi_1|pi_1|-" + nothing},
		{"charge captured beyond its amount and refunded", "charge.refunded", `{` + ch + `,"amount":500,"amount_captured":600,"amount_refunded":550,"captured":true}`, "refund.succeeded|A1|pi_1|pi_1|-|captured -|refunded 5.50 USD|refund  -"},

		{"refund created", "refund.created", `{` + re + `,"status":"pending"}`, "refund.pending||pi_1|pi_1|-" + nothing + "|refund re_1 3.00 USD"},
		{"refund needs the payer", "refund.created", `{` + re + `,"status":"requires_action"}`, "refund.pending||pi_1|pi_1|-" + nothing + "|refund re_1 3.00 USD"},
		{"refund succeeded", "refund.updated", `{` + re + `,"status":"succeeded"}`, "refund.succeeded||pi_1|pi_1|-" + nothing + "|refund re_1 3.00 USD"},
		{"refund failed", "refund.failed", `{` + re + `,"status":"failed"}`, "refund.failed||pi_1|pi_1|-" + nothing + "|refund re_1 3.00 USD"},
		{"refund canceled", "charge.refund.updated", `{` + re + `,"status":"canceled"}`, "refund.failed||pi_1|pi_1|-" + nothing + "|refund re_1 3.00 USD"},
		{"refund in a new status", "refund.updated", `{` + re + `,"status":"teleported"}`, "unmapped||pi_1|pi_1|-" + nothing + "|refund re_1 3.00 USD"},
		{"refund of a charge alone", "refund.updated", `{"id":"re_1","charge":"ch_1","currency":"usd","amount":300,"status":"succeeded"}`, "refund.succeeded||ch_1|ch_1|-" + nothing + "|refund re_1 3.00 USD"},
		{"refund that changed the balance", "refund.created", `{` + re + `,"status":"succeeded","reason":"requested_by_customer","balance_transaction":"txn_1"}`, "refund.succeeded||pi_1|pi_1|-" + nothing + "|refund re_1 3.00 USD"},
		{"refund of an authorization that expired", "refund.created", `{` + re + `,"status":"succeeded","reason":"expired_uncaptured_charge"}`, "unmapped||pi_1|pi_1|-" + nothing + "|refund re_1 3.00 USD"},
		{"refund that left the balance as it was", "refund.updated", `{` + re + `,"status":"succeeded","balance_transaction":null}`, "unmapped||pi_1|pi_1|-" + nothing + "|refund re_1 3.00 USD"},
		{"refund that waits for the balance", "refund.created", `{` + re + `,"status":"pending","balance_transaction":null}`, "refund.pending||pi_1|pi_1|-" + nothing + "|refund re_1 3.00 USD"},
		{"refund of a charge that is there and not captured", "refund.updated", `{"id":"re_1","charge":{"id":"ch_1","captured":false},"currency":"usd","amount":300,"status":"succeeded"}`, "unmapped||ch_1|ch_1|-" + nothing + "|refund re_1 3.00 USD"},
		{"refund of a charge that is there and captured", "refund.updated", `{"id":"re_1","charge":{"id":"ch_1","amount_captured":400,"captured":true},"currency":"usd","amount":300,"status":"succeeded"}`, "refund.succeeded||ch_1|ch_1|-" + nothing + "|refund re_1 3.00 USD"},

		{"dispute opened", "charge.dispute.created", `{` + dp + `,"status":"needs_response"}`, "dispute.opened||pi_1|pi_1|-" + nothing + "|dispute dp_1 fraudulent 5.00 USD"},
		{"inquiry opened", "charge.dispute.created", `{` + dp + `,"status":"warning_needs_response"}`, "dispute.opened||pi_1|pi_1|-" + nothing + "|dispute dp_1 fraudulent 5.00 USD"},
		{"dispute updated", "charge.dispute.updated", `{` + dp + `,"status":"under_review"}`, "dispute.updated||pi_1|pi_1|-" + nothing + "|dispute dp_1 fraudulent 5.00 USD"},
		{"dispute money withdrawn", "charge.dispute.funds_withdrawn", `{` + dp + `,"status":"needs_response"}`, "dispute.updated||pi_1|pi_1|-" + nothing + "|dispute dp_1 fraudulent 5.00 USD"},
		{"dispute money back after it was won", "charge.dispute.funds_reinstated", `{` + dp + `,"status":"won"}`, "dispute.won||pi_1|pi_1|-" + nothing + "|dispute dp_1 fraudulent 5.00 USD"},
		{"dispute won", "charge.dispute.closed", `{` + dp + `,"status":"won"}`, "dispute.won||pi_1|pi_1|-" + nothing + "|dispute dp_1 fraudulent 5.00 USD"},
		{"dispute lost", "charge.dispute.closed", `{` + dp + `,"status":"lost"}`, "dispute.lost||pi_1|pi_1|-" + nothing + "|dispute dp_1 fraudulent 5.00 USD"},
		{"inquiry closed", "charge.dispute.closed", `{` + dp + `,"status":"warning_closed"}`, "dispute.closed||pi_1|pi_1|-" + nothing + "|dispute dp_1 fraudulent 5.00 USD"},

		{"session paid", "checkout.session.completed", `{` + cs + `,"payment_status":"paid","payment_intent":"pi_1"}`, "payment.succeeded|A1|pi_1||5.00 USD" + nothing},
		{"session completed before the money", "checkout.session.completed", `{` + cs + `,"payment_status":"unpaid","payment_intent":"pi_1"}`, "payment.pending|A1|pi_1||5.00 USD" + nothing},
		{"session that owes nothing", "checkout.session.completed", `{` + cs + `,"payment_status":"no_payment_required","payment_intent":null}`, "unmapped|A1|cs_1||5.00 USD" + nothing},
		{"session of a subscription has its invoice's name", "checkout.session.completed", `{` + cs + `,"payment_status":"paid","payment_intent":null,"invoice":"in_1"}`, "payment.succeeded|A1|in_1||-|captured 5.00 USD|refunded -"},
		{"session without any name is the order's total", "checkout.session.completed", `{` + cs + `,"payment_status":"paid"}`, "payment.succeeded|A1|||-|captured 5.00 USD|refunded -"},
		{"session with neither name nor order", "checkout.session.completed", `{"id":"cs_1","currency":"usd","amount_total":500,"payment_status":"paid"}`, "payment.succeeded||cs_1||-|captured 5.00 USD|refunded -"},
		{"session paid later", "checkout.session.async_payment_succeeded", `{` + cs + `,"payment_status":"paid","payment_intent":"pi_1"}`, "payment.succeeded|A1|pi_1||5.00 USD" + nothing},
		{"session failed later", "checkout.session.async_payment_failed", `{` + cs + `,"payment_status":"unpaid","payment_intent":"pi_1"}`, "payment.failed|A1|pi_1||5.00 USD" + nothing},
		{"session expired", "checkout.session.expired", `{` + cs + `,"payment_status":"unpaid","payment_intent":null}`, "payment.closed|A1|cs_1||5.00 USD" + nothing},

		{"invoice paid by an intent", "invoice.paid", `{` + in + `,"payment_intent":"pi_1"}`, "payment.succeeded|A1|in_1||-|captured 5.00 USD|refunded -|also pi_1"},
		{"invoice of a new API version", "invoice.paid", `{` + in + `,"payments":{"data":[{"payment":{"type":"payment_intent","payment_intent":"pi_1"}}]}}`, "payment.succeeded|A1|in_1||-|captured 5.00 USD|refunded -|also pi_1"},
		{"invoice paid by several intents", "invoice.paid", `{` + in + `,"payments":{"data":[{"payment":{"payment_intent":"pi_1"}},{"payment":{"payment_intent":"pi_2"}}]}}`, "payment.succeeded|A1|in_1||-|captured 5.00 USD|refunded -|also pi_1,pi_2"},
		{"invoice with more payments than told", "invoice.paid", `{` + in + `,"payments":{"has_more":true,"data":[{"payment":{"payment_intent":"pi_1"}}]}}`, "payment.succeeded|A1|in_1||-|captured 5.00 USD|refunded -|also pi_1"},
		{"invoice without an intent", "invoice.payment_succeeded", `{` + in + `}`, "payment.succeeded|A1|in_1||-|captured 5.00 USD|refunded -"},
		{"invoice failed", "invoice.payment_failed", `{` + in + `,"payment_intent":"pi_1"}`, "payment.failed|A1|in_1||5.00 USD" + nothing + "|also pi_1"},
		{"what was paid of an invoice", "invoice_payment.paid", `{"id":"inpay_1","invoice":"in_1","amount_paid":500,"currency":"usd","payment":{"type":"payment_intent","payment_intent":"pi_1"}}`, "payment.succeeded||pi_1||5.00 USD" + nothing + "|also in_1"},
		{"by a charge alone", "invoice_payment.paid", `{"id":"inpay_1","invoice":"in_1","amount_paid":500,"currency":"usd","payment":{"type":"charge","charge":"ch_1"}}`, "payment.succeeded||ch_1||5.00 USD" + nothing + "|also in_1"},
		{"outside of Stripe", "invoice_payment.paid", `{"id":"inpay_1","invoice":"in_1","amount_paid":500,"currency":"usd","payment":{"type":"payment_record"}}`, "unmapped||inpay_1||-" + nothing},
		{"intent of an old API version names its invoice", "payment_intent.succeeded", `{` + pi + `,"amount_received":400,"invoice":"in_1"}`, "payment.succeeded|A1|pi_1||4.00 USD" + nothing + "|also in_1"},
		{"charge of an old API version names its invoice", "charge.succeeded", `{` + ch + `,"amount":500,"amount_captured":500,"captured":true,"invoice":"in_1"}`, "payment.succeeded|A1|pi_1||5.00 USD" + nothing + "|also in_1"},
		{"session with an invoice made for it", "checkout.session.completed", `{` + cs + `,"payment_status":"paid","payment_intent":"pi_1","invoice":"in_1"}`, "payment.succeeded|A1|pi_1||5.00 USD" + nothing + "|also in_1"},
		{"session that costs nothing", "checkout.session.completed", `{"id":"cs_1","currency":"usd","amount_total":0,"client_reference_id":"A1","payment_status":"no_payment_required"}`, "payment.succeeded|A1|||-|captured 0.00 USD|refunded -"},
		{"session that keeps a card", "checkout.session.completed", `{"id":"cs_1","currency":null,"amount_total":null,"client_reference_id":"A1","payment_status":"no_payment_required","mode":"setup"}`, "unmapped|A1|cs_1||-" + nothing},
		{"destination charge, grouped by Stripe", "payment_intent.succeeded", `{"id":"pi_1","currency":"usd","amount_received":500,"transfer_group":"group_pi_1"}`, "payment.succeeded||pi_1||5.00 USD" + nothing},
		{"grouped by Stripe under the charge", "charge.succeeded", `{` + alone + `,"amount":500,"amount_captured":500,"captured":true,"transfer_group":"group_ch_1"}`, "payment.succeeded||ch_1||5.00 USD" + nothing},
		{"grouped by Stripe, of another kind of charge", "charge.succeeded", `{` + alone + `,"amount":500,"amount_captured":500,"captured":true,"transfer_group":"group_py_1"}`, "payment.succeeded||ch_1||5.00 USD" + nothing},
		{"grouped by the merchant", "payment_intent.succeeded", `{"id":"pi_1","currency":"usd","amount_received":500,"transfer_group":"group_A1"}`, "payment.succeeded|group_A1|pi_1||5.00 USD" + nothing},
		{"failed, with an amount that is none", "payment_intent.payment_failed", `{` + pi + `,"amount":5.5}`, "payment.failed|A1|pi_1||-" + nothing + "|left out payment.amount"},
		{"dispute opened, with an amount that is none", "charge.dispute.created", `{"id":"dp_1","charge":"ch_1","currency":"usd","amount":"5","status":"needs_response"}`, "dispute.opened||ch_1|ch_1|-" + nothing + "|dispute dp_1  -|left out dispute.amount"},
		{"refund under way, with an amount that is none", "refund.created", `{"id":"re_1","charge":"ch_1","currency":"usd","amount":"3","status":"pending"}`, "refund.pending||ch_1|ch_1|-" + nothing + "|refund re_1 -|left out refund.amount"},

		{"payout", "payout.paid", `{"id":"po_1","amount":-700,"currency":"eur"}`, "payout.updated||po_1||-7.00 EUR" + nothing},
		{"mandate", "mandate.updated", `{"id":"mandate_1"}`, "mandate.updated||mandate_1||-" + nothing},
		{"subscription", "customer.subscription.deleted", `{"id":"sub_1"}`, "subscription.updated||sub_1||-" + nothing},
		{"unknown", "treasury.outbound_payment.posted", `{"id":"x"}`, "unmapped"},
		{"unknown about an order we know", "charge.updated", `{` + ch + `}`, "unmapped|A1|||-" + nothing},
		{"a type that looks like another", "Payment_intent.succeeded", `{"id":"x"}`, "unmapped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := decode(t, stripe.DefaultOptions(), c.word, c.object)
			if err != nil {
				t.Fatal(err)
			}
			if got := said(e); got != c.want {
				t.Errorf("said\n %s, want\n %s", got, c.want)
			}
			if e.ProviderEvent != (event.ProviderEvent{ID: "evt_1", IDAuthenticated: true, Type: c.word}) {
				t.Errorf("provider event is %+v", e.ProviderEvent)
			}
			if e.Live == nil || !*e.Live || !e.OccurredAt.Equal(time.Unix(1700000000, 0)) {
				t.Errorf("live %v, occurred at %v", e.Live, e.OccurredAt)
			}
		})
	}
}

func TestDecodeDetails(t *testing.T) {
	t.Run("failure of an intent", func(t *testing.T) {
		e, err := decode(t, stripe.DefaultOptions(), "payment_intent.payment_failed",
			`{"id":"pi_1","amount":1,"currency":"usd","last_payment_error":{"code":"card_declined","message":"No."}}`)
		if err != nil || e.Payment.Failure == nil || *e.Payment.Failure != (event.Failure{Code: "card_declined", Message: "No."}) {
			t.Errorf("failure %+v, %v", e.Payment, err)
		}
	})
	t.Run("failure of a charge", func(t *testing.T) {
		e, err := decode(t, stripe.DefaultOptions(), "charge.failed",
			`{"id":"ch_1","amount":1,"currency":"usd","failure_code":"expired_card","payment_method_details":{"type":"card"}}`)
		if err != nil || e.Payment.Failure == nil || e.Payment.Failure.Code != "expired_card" || e.Payment.Method != "card" {
			t.Errorf("failure %+v, %v", e.Payment, err)
		}
	})
	t.Run("evidence is due", func(t *testing.T) {
		e, err := decode(t, stripe.DefaultOptions(), "charge.dispute.created",
			`{"id":"dp_1","charge":"ch_1","amount":1,"currency":"usd","evidence_details":{"due_by":1700086400}}`)
		if err != nil || !e.Dispute.DueBy.Equal(time.Unix(1700086400, 0)) {
			t.Errorf("dispute %+v, %v", e.Dispute, err)
		}
	})
	t.Run("customer reference", func(t *testing.T) {
		o := stripe.DefaultOptions()
		o.CustomerRef = "/data/object/metadata/customer"
		e, err := decode(t, o, "payment_intent.succeeded", `{"id":"pi_1","amount_received":1,"currency":"usd","metadata":{"customer":"C7"}}`)
		if err != nil || e.Merchant.CustomerRef != "C7" {
			t.Errorf("merchant %+v, %v", e.Merchant, err)
		}
	})
	t.Run("references are kept byte for byte", func(t *testing.T) {
		e, err := decode(t, stripe.DefaultOptions(), "payment_intent.succeeded",
			`{"id":"pi_1","amount_received":1,"currency":"usd","metadata":{"order_id":" A\u00e9\/1 "}}`)
		if err != nil || e.Payment.OrderRef != " Aé/1 " {
			t.Errorf("order ref %q, %v", e.Payment.OrderRef, err)
		}
	})
	t.Run("order references in turn", func(t *testing.T) {
		o := stripe.DefaultOptions()
		o.OrderRef = []string{"/data/object/metadata/order_id", "/data/object/transfer_group"}
		e, err := decode(t, o, "payment_intent.succeeded",
			`{"id":"pi_1","amount_received":1,"currency":"usd","metadata":{"order_id":""},"transfer_group":"G1"}`)
		if err != nil || e.Payment.OrderRef != "G1" {
			t.Errorf("order ref %q, %v", e.Payment.OrderRef, err)
		}
	})
}

// TestRefundedAfterPartialCapture has a charge of 10.00. Until API version
// 2025-03-31 the part that was not captured stands in amount_refunded.
func TestRefundedAfterPartialCapture(t *testing.T) {
	const before, since = "2025-02-24.acacia", "2025-03-31.basil"
	for _, c := range []struct {
		name, version, captured, refunded, want string
	}{
		{"released", before, "600", "400", ""},
		{"released, then refunded", before, "600", "500", "1.00 USD"},
		{"released, then refunded whole", before, "600", "1000", "6.00 USD"},
		{"refunded", since, "600", "100", "1.00 USD"},
		{"refunded as much as was released", since, "600", "400", "4.00 USD"},
		{"refunded whole", since, "600", "600", "6.00 USD"},
		{"refunded, in a version of a word to come", "2026-10-28.endive", "600", "500", "5.00 USD"},
		// What is told cannot be otherwise, whatever the version.
		{"refunded less than would be released", before, "600", "300", "3.00 USD"},
		{"refunded more than was captured", since, "300", "900", "2.00 USD"},
	} {
		t.Run(c.name+" in "+c.version, func(t *testing.T) {
			e, err := decodeBody(t, stripe.DefaultOptions(), `{"id":"evt_1","object":"event","type":"charge.refunded","api_version":"`+c.version+`",
				"data":{"object":{"id":"ch_1","payment_intent":"pi_1","currency":"usd","metadata":{"order_id":"A1"},"amount":1000,
				"captured":true,"amount_captured":`+c.captured+`,"amount_refunded":`+c.refunded+`}}}`)
			if err != nil {
				t.Fatal(err)
			}
			want := "refund.succeeded|A1|pi_1|pi_1|-|captured -|refunded " + c.want + "|refund  -"
			if c.want == "" {
				want = "unmapped|A1|pi_1|pi_1|-|captured -|refunded -"
			}
			if got := said(e); got != want {
				t.Errorf("said\n %s, want\n %s", got, want)
			}
		})
	}
}

func TestThinEvent(t *testing.T) {
	e, err := decodeBody(t, stripe.DefaultOptions(), `{"id":"evt_test_1","object":"v2.core.event","type":"v1.payment_intent.succeeded",
		"created":"2025-10-04T15:13:32.232083866Z","livemode":false,"context":"acct_1","related_object":{"id":"pi_1","type":"payment_intent","url":"/v1/payment_intents/pi_1"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if e.Type != event.PaymentReference || e.Completeness != event.NeedsFetch || e.Payment.ProviderRef != "pi_1" || e.MovesMoney() {
		t.Errorf("a thin event says %s, %s", said(e), e.Completeness)
	}
	if want := time.Date(2025, 10, 4, 15, 13, 32, 232e6, time.UTC); e.OccurredAt != want {
		t.Errorf("occurred at %v, want %v", e.OccurredAt, want)
	}
	if e.Live == nil || *e.Live || e.Merchant.Account != "acct_1" {
		t.Errorf("live %v, merchant %+v", e.Live, e.Merchant)
	}
}

func TestDecodeMalformed(t *testing.T) {
	for _, c := range []struct{ name, body string }{
		{"not JSON", `hello`},
		{"no id", `{"object":"event","type":"payment_intent.succeeded"}`},
		{"no type", `{"object":"event","id":"evt_1"}`},
		{"another object", `{"object":"charge","id":"ch_1","type":"x"}`},
		{"no object", `{"object":"event","id":"e","type":"payment_intent.succeeded"}`},
		{"no amount", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","currency":"usd"}}}`},
		{"an amount of another member", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","currency":"usd","amount":1}}}`},
		{"an amount in another case", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","currency":"usd","AMOUNT_RECEIVED":1}}}`},
		{"no currency", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount_received":1}}}`},
		{"no such currency", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount_received":1,"currency":"$"}}}`},
		{"a currency that Unicode makes one", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount_received":1,"currency":"uſd"}}}`},
		{"a currency with a dotless i", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount_received":1,"currency":"ıs"}}}`},
		{"a currency that is a number", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount_received":1,"currency":978}}}`},
		{"half a surrogate pair for an order", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount_received":1,"currency":"usd","metadata":{"order_id":"S\ud800x"}}}}`},
		{"a lost dispute over no amount", `{"object":"event","id":"e","type":"charge.dispute.closed","data":{"object":{"id":"dp_1","charge":"ch_1","status":"lost","currency":"usd"}}}`},
		{"a fraction of a cent", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount_received":1.5,"currency":"usd"}}}`},
		{"an amount as text", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount_received":"1","currency":"usd"}}}`},
		{"an amount beyond int64", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount_received":9223372036854775808,"currency":"usd"}}}`},
		{"a negative amount", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount_received":-1,"currency":"usd"}}}`},
		{"two amounts", `{"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount_received":1,"amount_received":2,"currency":"usd"}}}`},
		{"a charge that does not say", `{"object":"event","id":"e","type":"charge.succeeded","data":{"object":{"id":"ch_1","amount":1,"currency":"usd"}}}`},
		{"a refund of nothing", `{"object":"event","id":"e","type":"refund.updated","data":{"object":{"id":"re_1","amount":1,"currency":"usd","status":"succeeded"}}}`},
		{"a negative refund", `{"object":"event","id":"e","type":"charge.refunded","data":{"object":{"id":"ch_1","amount":5,"amount_captured":5,"amount_refunded":-1,"currency":"usd"}}}`},
		{"a negative capture", `{"object":"event","id":"e","type":"charge.refunded","data":{"object":{"id":"ch_1","amount":5,"amount_captured":-1,"amount_refunded":1,"currency":"usd"}}}`},
		{"a capture of no amount", `{"object":"event","id":"e","type":"charge.refunded","data":{"object":{"id":"ch_1","amount_captured":5,"amount_refunded":1,"currency":"usd"}}}`},
		{"a refund of more than there was", `{"object":"event","id":"e","type":"charge.refunded","data":{"object":{"id":"ch_1","amount":5,"amount_captured":3,"amount_refunded":6,"currency":"usd"}}}`},
		{"a capture after a refund of more than there was", `{"object":"event","id":"e","type":"charge.captured","data":{"object":{"id":"ch_1","amount":5,"amount_refunded":6,"captured":true,"currency":"usd"}}}`},
		{"a dispute of nothing", `{"object":"event","id":"e","type":"charge.dispute.created","data":{"object":{"id":"dp_1","amount":1,"currency":"usd"}}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if e, err := decodeBody(t, stripe.DefaultOptions(), c.body); !errors.Is(err, provider.ErrMalformed) {
				t.Errorf("decoded as %s with %v, want ErrMalformed", said(e), err)
			}
		})
	}
}

// TestLeftOut: what decides nothing costs only itself.
func TestLeftOut(t *testing.T) {
	o := stripe.DefaultOptions()
	o.CustomerRef = "/data/object/metadata/customer_id"
	const paid = `"object":"event","id":"e","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","amount_received":1,"currency":"usd","metadata":{"customer_id":`
	for _, c := range []struct {
		name, body string
		left       []string
	}{
		{"a time that is none", `{"created":"yesterday",` + paid + `"c1"}}}}`, []string{event.LeftOutOccurredAt}},
		{"a time after all times", `{"created":253402300800,` + paid + `"c1"}}}}`, []string{event.LeftOutOccurredAt}},
		{"a thin time that is none", `{"object":"v2.core.event","id":"e","type":"x","created":"yesterday"}`, []string{event.LeftOutOccurredAt}},
		{"half a surrogate pair for a customer", `{` + paid + `"C\udc00"}}}}`, []string{event.LeftOutCustomerRef}},
		{"a customer that is an object", `{` + paid + `{}}}}}`, []string{event.LeftOutCustomerRef}},
		{"no customer", `{` + paid + `null}}}}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := decodeBody(t, o, c.body)
			if err != nil || !slices.Equal(e.LeftOut, c.left) {
				t.Errorf("left out %v, %v, want %v", e.LeftOut, err, c.left)
			}
			if len(c.left) == 1 && c.left[0] == event.LeftOutCustomerRef && e.Merchant.CustomerRef != "" {
				t.Errorf("the customer is %q", e.Merchant.CustomerRef)
			}
		})
	}
}

// TestOneEventInTwoAPIVersions: while a merchant moves to another version, two endpoints
// send each event once in either. Both are one fact.
func TestOneEventInTwoAPIVersions(t *testing.T) {
	for name, c := range map[string]struct{ word, before, since string }{
		"invoice paid": {
			"invoice.paid",
			`{"id":"in_1","amount_paid":500,"currency":"usd","payment_intent":"pi_1","charge":"ch_1","metadata":{"order_id":"A1"}}`,
			`{"id":"in_1","amount_paid":500,"currency":"usd","parent":{"type":"subscription_details"},"metadata":{"order_id":"A1"}}`,
		},
		"invoice failed": {
			"invoice.payment_failed",
			`{"id":"in_1","amount_due":500,"currency":"usd","payment_intent":"pi_1","metadata":{"order_id":"A1"}}`,
			`{"id":"in_1","amount_due":500,"currency":"usd","payments":{"data":[{"payment":{"payment_intent":"pi_1"}}]},"metadata":{"order_id":"A1"}}`,
		},
		"intent of an invoice": {
			"payment_intent.succeeded",
			`{"id":"pi_1","amount_received":500,"currency":"usd","invoice":"in_1","charges":{"data":[]}}`,
			`{"id":"pi_1","amount_received":500,"currency":"usd","latest_charge":"ch_1"}`,
		},
		"charge of an invoice": {
			"charge.succeeded",
			`{"id":"ch_1","amount":500,"captured":true,"currency":"usd","invoice":"in_1","payment_intent":"pi_1"}`,
			`{"id":"ch_1","amount":500,"amount_captured":500,"amount_refunded":0,"captured":true,"currency":"usd","payment_intent":"pi_1"}`,
		},
		"refund after a partial capture": {
			"charge.refunded",
			`{"id":"ch_1","amount":500,"amount_captured":300,"amount_refunded":250,"captured":true,"currency":"usd","payment_intent":"pi_1"}`,
			`{"id":"ch_1","amount":500,"amount_captured":300,"amount_refunded":50,"captured":true,"currency":"usd","payment_intent":"pi_1"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			body := func(version, object string) string {
				return `{"id":"evt_1","object":"event","type":"` + c.word + `","api_version":"` + version + `","created":1700000000,"data":{"object":` + object + `}}`
			}
			before, err := decodeBody(t, stripe.DefaultOptions(), body("2024-06-20", c.before))
			if err != nil {
				t.Fatal(err)
			}
			since, err := decodeBody(t, stripe.DefaultOptions(), body("2025-03-31.basil", c.since))
			if err != nil {
				t.Fatal(err)
			}
			if before.Facts() != since.Facts() {
				t.Errorf("two facts:\n%s\n%s", said(before), said(since))
			}
		})
	}
}

func TestConnectedAccount(t *testing.T) {
	o := stripe.DefaultOptions()
	o.Account, o.Live = "acct_ours", new(true)
	for _, c := range []struct {
		name, body string
		refused    bool
	}{
		{"ours", `{"id":"e","object":"event","type":"x","account":"acct_ours"}`, false},
		{"theirs", `{"id":"e","object":"event","type":"x","account":"acct_theirs"}`, true},
		{"the platform's own", `{"id":"e","object":"event","type":"x"}`, true},
		{"thin, ours", `{"id":"e","object":"v2.core.event","type":"x","context":"acct_ours"}`, false},
		{"thin, theirs", `{"id":"e","object":"v2.core.event","type":"x","context":"acct_theirs"}`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := decodeBody(t, o, c.body)
			var r *provider.Refusal
			if errors.As(err, &r) != c.refused || (c.refused && r.Reason != provider.ReasonIdentity) {
				t.Fatalf("got %v, want refused %v", err, c.refused)
			}
			if !c.refused && e.Merchant.Account != "acct_ours" {
				t.Errorf("merchant is %+v", e.Merchant)
			}
		})
	}
	p, err := stripe.New(o, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Identity().Merchant; got != "acct_ours" {
		t.Errorf("identity enforces %q", got)
	}
}

// TestMode sends a payment to accounts of one mode, live or test.
func TestMode(t *testing.T) {
	live, test := stripe.DefaultOptions(), stripe.DefaultOptions()
	live.Live, test.Live = new(true), new(false)
	for _, c := range []struct {
		name    string
		options stripe.Options
		mode    string
		counts  bool
	}{
		{"live in live mode", live, `"livemode":true`, true},
		{"test in live mode", live, `"livemode":false`, false},
		{"no mode in live mode", live, `"livemode":null`, false},
		{"a mode as text in live mode", live, `"livemode":"true"`, false},
		{"test in test mode", test, `"livemode":false`, true},
		{"live in test mode", test, `"livemode":true`, false},
		{"no mode in test mode", test, `"pending_webhooks":1`, false},
		{"test where both count", stripe.DefaultOptions(), `"livemode":false`, true},
		{"no mode where both count", stripe.DefaultOptions(), `"pending_webhooks":1`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := decodeBody(t, c.options, `{"id":"evt_1","object":"event","type":"payment_intent.succeeded",`+c.mode+`,
				"data":{"object":{"id":"pi_1","currency":"usd","amount_received":500,"metadata":{"order_id":"A1"}}}}`)
			if err != nil {
				t.Fatal(err)
			}
			typ, status := event.PaymentSucceeded, event.StatusPaid
			if !c.counts {
				typ, status = event.Unmapped, event.StatusUnknown
			}
			if got, want := said(e), string(typ)+"|A1|pi_1||5.00 USD|captured -|refunded -"; got != want {
				t.Errorf("said\n %s, want\n %s", got, want)
			}
			var order event.Order
			order.Apply(&e)
			if got := order.Status(); e.MovesMoney() != c.counts || got != status {
				t.Errorf("moves money %v, the order is %s, want %v and %s", e.MovesMoney(), got, c.counts, status)
			}
			e, err = decodeBody(t, c.options, `{"id":"evt_2","object":"v2.core.event","type":"v1.payment_intent.succeeded",`+c.mode+`,
				"related_object":{"id":"pi_1","type":"payment_intent"}}`)
			if err != nil {
				t.Fatal(err)
			}
			typ, completeness := event.PaymentReference, event.NeedsFetch
			if !c.counts {
				typ, completeness = event.Unmapped, event.Full
			}
			if e.Type != typ || e.Completeness != completeness || e.Payment.ProviderRef != "pi_1" {
				t.Errorf("a thin event says %s, %s, want %s, %s", said(e), e.Completeness, typ, completeness)
			}
		})
	}
}

// TestRedelivery decodes events again as Stripe sends them again.
func TestRedelivery(t *testing.T) {
	test := stripe.DefaultOptions()
	test.Live = new(false)
	for _, c := range []struct {
		name, word, object string
		options            stripe.Options
	}{
		{"of a release", "charge.refunded", `"amount":500,"captured":false,"amount_refunded":500`, stripe.DefaultOptions()},
		{"of a refund", "charge.refunded", `"amount":500,"captured":true,"amount_captured":400,"amount_refunded":200`, stripe.DefaultOptions()},
		{"in another mode", "charge.succeeded", `"amount":500,"captured":true,"amount_captured":500`, test},
	} {
		t.Run(c.name, func(t *testing.T) {
			var facts []event.Facts
			for _, pending := range []string{"2", "1"} {
				e, err := decodeBody(t, c.options, `{"id":"evt_1","object":"event","type":"`+c.word+`","livemode":true,"pending_webhooks":`+pending+`,
					"data":{"object":{"id":"ch_1","payment_intent":"pi_1","currency":"usd","metadata":{"order_id":"A1"},`+c.object+`}}}`)
				if err != nil {
					t.Fatal(err)
				}
				facts = append(facts, e.Facts())
			}
			if facts[0] != facts[1] {
				t.Errorf("facts %s, and %s when sent again", facts[0], facts[1])
			}
		})
	}
}

func TestMoney(t *testing.T) {
	for _, c := range []struct {
		currency, minor, want string
	}{
		{"usd", "8805", "88.05 USD"},
		{"eur", "0", "0.00 EUR"},
		{"huf", "10000", "100.00 HUF"},
		{"twd", "10000", "100.00 TWD"},
		{"jpy", "500", "500 JPY"},
		{"krw", "500", "500 KRW"},
		{"clp", "500", "500 CLP"},
		{"vnd", "500", "500 VND"},
		{"xpf", "500", "500 XPF"},
		{"isk", "500", "5.00 ISK"},
		{"ugx", "500", "5.00 UGX"},
		{"mga", "500", "500 MGA"},
		{"kwd", "5120", "5.120 KWD"},
		{"tnd", "5120", "5.120 TND"},
		{"USD", "1", "0.01 USD"},
	} {
		t.Run(c.currency+" "+c.minor, func(t *testing.T) {
			e, err := decode(t, stripe.DefaultOptions(), "payment_intent.succeeded", `{"id":"pi_1","amount_received":`+c.minor+`,"currency":"`+c.currency+`"}`)
			if err != nil {
				t.Fatal(err)
			}
			if got := e.Payment.Amount.String(); got != c.want {
				t.Errorf("amount %s, want %s", got, c.want)
			}
		})
	}
}
