package admin_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

func TestStatus(t *testing.T) {
	report := streams.Report{Undecodable: 2, Groups: []streams.GroupStats{{
		Group: "points", Lag: 3, Pending: 2, Dead: 1,
		Partitions: []streams.GroupPartition{{Partition: 4, Owner: "host-1", Epoch: "17"}},
	}}}
	a := newAdmin(t, admin.DefaultOptions(), func(d *admin.Deps) {
		d.Accounts = []admin.Account{{Name: "alipay-main", Provider: "alipay", Namespace: "shop", DedupWindow: "168h0m0s"}}
		d.Ready = func(context.Context) error { return nil }
		d.Durability = func(context.Context) (streams.Durability, error) {
			return streams.Durability{Version: "7.0.15", AOF: true, Appendfsync: "always", RewriteFsync: true, Problems: []string{"set noeviction"}}, nil
		}
		d.Stats = stats{report: report}
		d.Orders, d.Points = orders{orders: []admin.Order{paidOrder, slashOrder}}, ledger
	})
	w := ask(t, a, http.MethodGet, "/api/v1/status")
	s := answer[admin.Status](t, w, 200)
	if s.Version != "v0.1.0" || !s.Now.Equal(noon) || !s.StartedAt.Equal(noon) || len(s.Accounts) != 1 || s.Accounts[0].Name != "alipay-main" {
		t.Errorf("got %+v", s)
	}
	if s.Gateway == nil || !s.Gateway.Ready || s.Redis == nil || s.Redis.Level != "fsync" || s.Redis.Problems[0] != "set noeviction" {
		t.Errorf("got gateway %+v, redis %+v", s.Gateway, s.Redis)
	}
	if s.Streams == nil || s.Streams.Groups[0].Lag != 3 || s.Streams.Groups[0].Partitions[0].Owner != "host-1" {
		t.Errorf("got streams %+v", s.Streams)
	}
	if len(s.Orders) != 2 || s.Orders[0].Status != "paid" || s.Orders[0].Points == nil || *s.Orders[0].Points != 80 || s.Orders[1].Points != nil {
		t.Errorf("got orders %+v", s.Orders)
	}
	if len(s.Unavailable) != 0 || !strings.Contains(w.Body.String(), `"level": "fsync"`) || !strings.Contains(w.Body.String(), `"undecodable": 2`) {
		t.Errorf("got %s", w.Body)
	}
}

// TestStatusWithoutUndecodable: none is said as 0, and not known is not.
func TestStatusWithoutUndecodable(t *testing.T) {
	for name, c := range map[string]struct {
		stats stats
		want  bool
	}{
		"none":      {stats{}, true},
		"not known": {stats{err: errors.New("dial tcp: refused")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAdmin(t, admin.DefaultOptions(), func(d *admin.Deps) { d.Stats = c.stats })
			w := ask(t, a, http.MethodGet, "/api/v1/status")
			if got := strings.Contains(w.Body.String(), `"undecodable": 0`); got != c.want || strings.Count(w.Body.String(), "undecodable") > 1 {
				t.Errorf("got %s", w.Body)
			}
		})
	}
}

// TestStatusWithParts: what does not answer, or panics, is named, and what does
// answer is there.
func TestStatusWithParts(t *testing.T) {
	a := newAdmin(t, admin.DefaultOptions(), func(d *admin.Deps) {
		d.Ready = func(context.Context) error { return errors.New("redis is down") }
		d.Durability = func(context.Context) (streams.Durability, error) { panic("at the disco") }
		d.Stats = stats{err: errors.New("dial tcp: refused")}
		d.Orders = orders{orders: []admin.Order{paidOrder}}
	})
	s := answer[admin.Status](t, ask(t, a, http.MethodGet, "/api/v1/status"), 200)
	if s.Gateway == nil || s.Gateway.Ready || s.Gateway.Why != "redis is down" {
		t.Errorf("got gateway %+v", s.Gateway)
	}
	if len(s.Unavailable) != 2 || s.Unavailable[0] != (admin.Unavailable{Part: "redis", Why: "admin: panic in a source: string"}) ||
		s.Unavailable[1] != (admin.Unavailable{Part: "streams", Why: "dial tcp: refused"}) {
		t.Errorf("got %+v", s.Unavailable)
	}
	if len(s.Orders) != 1 || s.Redis != nil || s.Streams != nil {
		t.Errorf("got %+v", s)
	}
}

// TestNotHere: a process without a part says so.
func TestNotHere(t *testing.T) {
	a := newAdmin(t, admin.DefaultOptions(), nil)
	for _, path := range []string{"/api/v1/orders", "/api/v1/orders/shop/A1", "/api/v1/deadletters/points", "/api/v1/deadletters/points/0-1-1"} {
		if w := ask(t, a, http.MethodGet, path); w.Code != 501 || !strings.Contains(w.Body.String(), `"not_here"`) {
			t.Errorf("%s: got %d %s", path, w.Code, w.Body)
		}
	}
	s := answer[admin.Status](t, ask(t, a, http.MethodGet, "/api/v1/status"), 200)
	if s.Gateway != nil || s.Orders != nil || len(s.Unavailable) != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestOrders(t *testing.T) {
	var asked admin.OrderQuery
	a := newAdmin(t, admin.DefaultOptions(), func(d *admin.Deps) {
		d.Orders = orders{
			orders: []admin.Order{paidOrder, slashOrder}, asked: &asked,
			history: []admin.OrderChange{{At: noon, EventID: "evt_1", Type: event.PaymentSucceeded, Change: "applied", Before: "unknown", After: "paid"}},
		}
		d.Points = ledger
	})
	type list struct {
		Orders []admin.Order `json:"orders"`
	}
	got := answer[list](t, ask(t, a, http.MethodGet, "/api/v1/orders?ref=A1001&namespace=shop&limit=7"), 200)
	if len(got.Orders) != 2 || *got.Orders[0].Points != 80 || asked != (admin.OrderQuery{Namespace: "shop", Ref: "A1001", Limit: 7}) {
		t.Errorf("got %+v for %+v", got, asked)
	}
	answer[list](t, ask(t, a, http.MethodGet, "/api/v1/orders"), 200)
	if asked != (admin.OrderQuery{Limit: 50}) {
		t.Errorf("by default: %+v", asked)
	}
	detail := answer[admin.OrderDetail](t, ask(t, a, http.MethodGet, "/api/v1/orders/shop/A1001"), 200)
	if detail.Ref != "A1001" || *detail.Points != 80 || len(detail.History) != 1 || len(detail.Ledger) != 2 || detail.Captured.Value != "88.00" {
		t.Errorf("got %+v", detail)
	}
	w := ask(t, a, http.MethodGet, "/api/v1/orders/shop/2026%2F03%20+1%25")
	if detail := answer[admin.OrderDetail](t, w, 200); detail.Ref != "2026/03 +1%" || *detail.Points != 0 || !strings.Contains(w.Body.String(), `"ledger": []`) {
		t.Errorf("got %+v %s", detail, w.Body)
	}
	if w := ask(t, a, http.MethodGet, "/api/v1/orders/shop/none"); w.Code != 404 {
		t.Errorf("an unknown order: got %d %s", w.Code, w.Body)
	}
}

// TestBadParameters: every problem is told at once, by the parameter's name.
func TestBadParameters(t *testing.T) {
	var asked streams.DeadLetterQuery
	var group string
	a := newAdmin(t, admin.DefaultOptions(), func(d *admin.Deps) {
		d.Orders = orders{}
		d.Stats = stats{}
		d.DeadLetters = deadLetters{asked: &asked, group: &group}
	})
	long := strings.Repeat("x", 600)
	cases := map[string]struct {
		target string
		want   map[string]string
	}{
		"limit too large":   {"/api/v1/orders?limit=501", map[string]string{"limit": "must be at most 500"}},
		"limit of none":     {"/api/v1/orders?limit=0", map[string]string{"limit": "must be at least 1"}},
		"limit no number":   {"/api/v1/orders?limit=ten", map[string]string{"limit": "must be a whole number"}},
		"a long reference":  {"/api/v1/orders?ref=" + long, map[string]string{"ref": "must be at most 512 characters long"}},
		"given twice":       {"/api/v1/orders?ref=a&ref=b", map[string]string{"ref": "is given more than once"}},
		"empty":             {"/api/v1/orders?ref=&limit=", map[string]string{"ref": "is empty: give a value, or leave it out", "limit": "is empty: give a value, or leave it out"}},
		"an empty filter":   {"/api/v1/deadletters/points?order=&reason=cap&since", map[string]string{"order": "is empty: give a value, or leave it out", "since": "is empty: give a value, or leave it out"}},
		"unknown":           {"/api/v1/orders?status=paid", map[string]string{"status": "is not a parameter here"}},
		"unreadable":        {"/api/v1/orders?ref=%zz", map[string]string{"": "the query cannot be read"}},
		"on a status":       {"/api/v1/status?verbose=1", map[string]string{"verbose": "is not a parameter here"}},
		"on an order":       {"/api/v1/orders/shop/A1?x=1", map[string]string{"x": "is not a parameter here"}},
		"on a dead letter":  {"/api/v1/deadletters/points/1-1-1?x=1", map[string]string{"x": "is not a parameter here"}},
		"unknown reason":    {"/api/v1/deadletters/points?reason=bored", map[string]string{"reason": "must be one of: rejected attempts age crash unreadable cap"}},
		"no time":           {"/api/v1/deadletters/points?since=yesterday", map[string]string{"since": "must be a time such as 2026-03-01T12:00:00Z, or how long ago, such as 2h"}},
		"a time to come":    {"/api/v1/deadletters/points?since=-2h", map[string]string{"since": "must be a time such as 2026-03-01T12:00:00Z, or how long ago, such as 2h"}},
		"the wrong way":     {"/api/v1/deadletters/points?since=1h&until=2h", map[string]string{"until": "must be later than since"}},
		"a long group":      {"/api/v1/deadletters/" + long, map[string]string{"group": "must be at most 128 characters long"}},
		"all wrong at once": {"/api/v1/deadletters/points?limit=x&reason=y&since=z&page=2", map[string]string{"limit": "must be a whole number", "page": "is not a parameter here", "reason": "must be one of: rejected attempts age crash unreadable cap", "since": "must be a time such as 2026-03-01T12:00:00Z, or how long ago, such as 2h"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			group = "not asked"
			got := answer[struct {
				Error struct {
					Code     string
					Problems []struct{ Parameter, Problem string }
				}
			}](t, ask(t, a, http.MethodGet, tc.target), 400)
			if got.Error.Code != "bad_request" || len(got.Error.Problems) != len(tc.want) {
				t.Fatalf("got %+v", got)
			}
			for _, p := range got.Error.Problems {
				if tc.want[p.Parameter] != p.Problem {
					t.Errorf("%s: %q, want %q", p.Parameter, p.Problem, tc.want[p.Parameter])
				}
			}
			if group != "not asked" {
				t.Error("the source was asked all the same")
			}
		})
	}
}

func TestDeadLetters(t *testing.T) {
	letter := streams.DeadLetter{
		ID: "4-1772366400000-0", Partition: 4, Group: "points", EntryID: "1772366000000-0", Attempts: 5,
		Reason: "attempts", Error: "points: no rule for CNY", Consumer: "host-1", DeadAt: noon,
		Record: event.Record{
			Event: event.Event{
				ID: "evt_1", Type: event.PaymentSucceeded, Account: "alipay-main",
				Merchant: event.Merchant{CustomerRef: "customer-ref-7"},
				Payment: &event.Payment{
					OrderRef: "A1001", Amount: &yuan, Failure: &event.Failure{Code: "04", Message: "Mr Smith has no money"},
				},
			},
			Evidence: event.Evidence{KeyID: "env:ALIPAY", SignedAt: noon, Headers: map[string]string{"Signature": "the-signature"}},
			Raw:      []byte("the raw callback"),
		},
	}
	unreadable := streams.DeadLetter{ID: "4-1-0", Group: "points", Reason: "unreadable", DeadAt: noon}
	var asked streams.DeadLetterQuery
	var group string
	source := deadLetters{letters: []streams.DeadLetter{letter, unreadable}, asked: &asked, group: &group}
	a := newAdmin(t, admin.DefaultOptions(), func(d *admin.Deps) { d.DeadLetters = source })

	w := ask(t, a, http.MethodGet, "/api/v1/deadletters/points?account=alipay-main&order=A1001&type=payment.succeeded&reason=attempts"+
		"&since=24h&until=2026-03-01T13:00:00%2B01:00&limit=2&cursor=9-1-1")
	want := streams.DeadLetterQuery{
		Account: "alipay-main", OrderRef: "A1001", Type: event.PaymentSucceeded, Reason: "attempts",
		Since: noon.Add(-24 * time.Hour), Until: noon, Limit: 2, After: "9-1-1",
	}
	if asked != want || group != "points" {
		t.Errorf("asked %s for %+v, want %+v", group, asked, want)
	}
	list := answer[struct {
		DeadLetters []admin.DeadLetter `json:"dead_letters"`
		Cursor      string
	}](t, w, 200)
	if len(list.DeadLetters) != 2 || list.Cursor != "3-1700000000000-0" {
		t.Fatalf("got %+v", list)
	}
	if l := list.DeadLetters[0]; l.EventID != "evt_1" || l.OrderRef != "A1001" || l.Error != "points: no rule for CNY" || l.Attempts != 5 || !l.DeadAt.Equal(noon) {
		t.Errorf("got %+v", l)
	}
	impersonal(t, w.Body.String())

	w = ask(t, a, http.MethodGet, "/api/v1/deadletters/points/4-1772366400000-0")
	detail := answer[admin.DeadLetterDetail](t, w, 200)
	if detail.Event == nil || detail.Event.Payment.Amount.Value != "88.00" || detail.Event.Payment.Failure.Code != "04" ||
		detail.KeyID != "env:ALIPAY" || detail.BodyBytes != 16 || detail.EntryID != "1772366000000-0" {
		t.Errorf("got %+v", detail)
	}
	impersonal(t, w.Body.String())
	if letter.Record.Event.Payment.Failure.Message != "Mr Smith has no money" {
		t.Error("the record itself was changed")
	}
	if detail := answer[admin.DeadLetterDetail](t, ask(t, a, http.MethodGet, "/api/v1/deadletters/points/4-1-0"), 200); detail.Event != nil {
		t.Errorf("an event out of nothing: %+v", detail.Event)
	}
	if w := ask(t, a, http.MethodGet, "/api/v1/deadletters/points/4-2-0"); w.Code != 404 || !strings.Contains(w.Body.String(), "no such dead letter") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	for err, status := range map[error]int{streams.ErrDeadLetterID: 400, streams.ErrUnknownGroup: 404, streams.ErrUnavailable: 503, errors.New("odd"): 503} {
		source.err = err
		a := newAdmin(t, admin.DefaultOptions(), func(d *admin.Deps) { d.DeadLetters = source })
		if w := ask(t, a, http.MethodGet, "/api/v1/deadletters/points"); w.Code != status {
			t.Errorf("%v: got %d %s", err, w.Code, w.Body)
		}
	}
}

// impersonal looks for what the operator's door must not show.
func impersonal(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{"customer-ref-7", "Mr Smith", "the-signature", "the raw callback"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is shown:\n%s", secret, text)
		}
	}
}
