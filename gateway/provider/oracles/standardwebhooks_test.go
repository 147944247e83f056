package oracles_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	sdk "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/standardwebhooks"
)

// webhooksAccount is a sandbox that rotates its secret: the newest signs, the one
// before is still accepted.
func webhooksAccount(tb testing.TB) (newest, old string, p *standardwebhooks.Provider, s *standardwebhooks.Signer) {
	tb.Helper()
	o, err := standardwebhooks.Sandbox(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	before, err := standardwebhooks.Sandbox(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	o.Secrets = secret.Slot{o.Secrets[0], before.Secrets[0]}
	if p, err = standardwebhooks.New(o, time.Now); err != nil {
		tb.Fatal(err)
	}
	if s, err = standardwebhooks.NewSigner(o, time.Now); err != nil {
		tb.Fatal(err)
	}
	return reveal(tb, o.Secrets[0]), reveal(tb, o.Secrets[1]), p, s
}

func webhooksSDK(tb testing.TB, secret string) *sdk.Webhook {
	tb.Helper()
	wh, err := sdk.NewWebhook(secret)
	if err != nil {
		tb.Fatal(err)
	}
	return wh
}

func webhooksCallback(body []byte, id string, at time.Time, signature string) *provider.Callback {
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("webhook-signature", signature)
	return &provider.Callback{Method: "POST", Header: h, Body: body, ReceivedAt: time.Now()}
}

// webhooksSigned checks our side of a callback that an SDK signed.
func webhooksSigned(t *testing.T, p provider.Provider, body []byte, at time.Time, signature string) {
	t.Helper()
	e := believe(t, p, webhooksCallback(body, "msg_1", at, signature))
	if e.ProviderEvent.ID != "msg_1" || e.OrderRef() != "A1001" {
		t.Errorf("decoded as %+v %+v", e, e.Payment)
	}
	refuse(t, p, webhooksCallback(append([]byte(" "), body...), "msg_1", at, signature), "altered body")
	refuse(t, p, webhooksCallback(body, "msg_2", at, signature), "altered id")
	refuse(t, p, webhooksCallback(body, "msg_1", at.Add(time.Second), signature), "altered time")
	_, _, stranger, _ := webhooksAccount(t)
	refuse(t, stranger, webhooksCallback(body, "msg_1", at, signature), "another account's secret")
}

func TestStandardWebhooksSDKsSign(t *testing.T) {
	newest, old, p, s := webhooksAccount(t)
	body, now := sign(t, s, sample(t, "EUR")).Body, time.Now()
	var jobs []object
	for _, secret := range []string{newest, old} {
		signature, err := webhooksSDK(t, secret).Sign("msg_1", now, body)
		if err != nil {
			t.Fatal(err)
		}
		webhooksSigned(t, p, body, now, signature)
		jobs = append(jobs, object{"op": "sign", "id": "msg_1", "timestamp": now.Unix(), "body": body, "secret": secret})
	}
	for _, made := range ask[struct {
		Signature string `json:"signature"`
	}](t, "standardwebhooks", jobs...) {
		webhooksSigned(t, p, body, now, made.Signature)
	}
	for what, at := range map[string]time.Time{"stale": now.Add(-time.Hour), "future": now.Add(time.Hour)} {
		signature, err := webhooksSDK(t, newest).Sign("msg_1", at, body)
		if err != nil {
			t.Fatal(err)
		}
		refuse(t, p, webhooksCallback(body, "msg_1", at, signature), what)
	}
}

func TestStandardWebhooksSDKsVerify(t *testing.T) {
	newest, old, p, s := webhooksAccount(t)
	var jobs []object
	var want []bool
	add := func(cb *provider.Callback, with string, good bool) {
		if err := webhooksSDK(t, with).Verify(cb.Body, cb.Header); (err == nil) != good {
			t.Errorf("the Go SDK says %v, want %v", err, good)
		}
		headers := object{}
		for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
			headers[name] = cb.Header.Get(name)
		}
		jobs, want = append(jobs, object{"op": "verify", "body": cb.Body, "headers": headers, "secret": with}), append(want, good)
	}
	cb := sign(t, s, sample(t, "EUR"))
	believe(t, p, cb)
	add(cb, newest, true)
	add(cb, old, false)
	for _, tamper := range tampers {
		sm := sample(t, "EUR")
		sm.Tamper = tamper
		cb := sign(t, s, sm)
		refuse(t, p, cb, string(tamper))
		add(cb, newest, false)
	}
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		sm := sample(t, "EUR")
		sm.At = time.Now().Add(off)
		cb := sign(t, s, sm)
		refuse(t, p, cb, off.String())
		add(cb, newest, false)
	}
	for i, v := range ask[verdict](t, "standardwebhooks", jobs...) {
		if v.Accepted != want[i] {
			t.Errorf("job %d: the Node SDK says %v (%s), want %v", i, v.Accepted, v.Reason, want[i])
		}
	}
}
