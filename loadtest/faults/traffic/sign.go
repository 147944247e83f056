package traffic

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The accounts of Config.
const (
	stripe   = "stripe"
	standard = "standard"
)

// callback is a request that is ready to be sent.
type callback struct {
	account string
	body    string
	header  http.Header
}

// member is a JSON member; an object's members keep the order they are given in,
// so that the same facts can be told in other bytes.
type member struct {
	name  string
	value any
}

type object []member

func (o object) render(spaced bool) string {
	gap := ""
	if spaced {
		gap = " "
	}
	parts := make([]string, len(o))
	for i, m := range o {
		value := ""
		if inner, ok := m.value.(object); ok {
			value = inner.render(spaced)
		} else {
			text, _ := json.Marshal(m.value) // texts and numbers always can be
			value = string(text)
		}
		parts[i] = fmt.Sprintf("%s%q:%s%s", gap, m.name, gap, value)
	}
	return "{" + strings.Join(parts, ",") + gap + "}"
}

func (o object) reversed() object {
	out := make(object, 0, len(o))
	for _, m := range slices.Backward(o) {
		if inner, ok := m.value.(object); ok {
			m.value = inner.reversed()
		}
		out = append(out, m)
	}
	return out
}

// render words a fact as its provider would. rerendered says the same in other bytes.
func (o *order) render(seq int, dollars int, at time.Time, rerendered bool) string {
	f := o.facts[seq]
	var body object
	if o.account == stripe {
		// docs.stripe.com/api/events/object, the members that count.
		body = object{
			{"id", o.id(seq)},
			{"object", "event"},
			{"created", at.Unix()},
			{"livemode", false},
			{"type", "payment_intent.succeeded"},
			{"data", object{{"object", object{
				{"id", "pi_" + o.ref},
				{"object", "payment_intent"},
				{"amount", dollars * 100},
				{"amount_received", dollars * 100},
				{"currency", "usd"},
				{"status", "succeeded"},
				{"latest_charge", "ch_" + o.ref},
				{"metadata", object{{"order_id", o.ref}, {"customer_id", o.customer}}},
			}}}},
		}
	} else {
		data := object{{"order_id", o.ref}, {"customer_id", o.customer}, {"payment_id", "pay_" + o.ref}}
		if f.dollars > 0 {
			data = append(data, member{"amount", fmt.Sprintf("%d.00", dollars)}, member{"currency", "USD"})
		}
		if f.kind == "refund.succeeded" {
			data = append(data, member{"refund_id", fmt.Sprintf("re_%s_%d", o.ref, seq)})
		}
		kind := f.kind
		if kind == unmapped {
			kind = "loyalty.noticed"
		}
		body = object{{"type", kind}, {"timestamp", at.UTC().Format(time.RFC3339)}, {"data", data}}
	}
	if rerendered {
		return body.reversed().render(true)
	}
	return body.render(false)
}

// sign signs a body as of a time.
func (s *Sender) sign(account, id, body string, at time.Time) callback {
	cb := callback{account: account, body: body, header: http.Header{"Content-Type": {"application/json"}}}
	stamp := strconv.FormatInt(at.Unix(), 10)
	if account == stripe {
		// docs.stripe.com/webhooks, "Verify webhook signatures manually".
		mac := hmac.New(sha256.New, []byte(s.o.StripeSecret))
		fmt.Fprintf(mac, "%s.%s", stamp, body)
		cb.header.Set("Stripe-Signature", "t="+stamp+",v1="+hex.EncodeToString(mac.Sum(nil)))
		return cb
	}
	// The specification of Standard Webhooks, "Verifying webhook authenticity".
	mac := hmac.New(sha256.New, s.standardKey)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	cb.header.Set("webhook-id", id)
	cb.header.Set("webhook-timestamp", stamp)
	cb.header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return cb
}
