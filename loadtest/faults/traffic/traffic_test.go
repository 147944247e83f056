package traffic_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paybell/paybell/loadtest/faults/traffic"
)

const (
	stripeSecret = "whsec_0123456789abcdef"
	standardKey  = "0123456789abcdef0123456789abcdef"
)

// request is what a door was sent.
type request struct {
	path, body string
	header     http.Header
}

// door takes callbacks, and answers each with what answer says.
type door struct {
	*httptest.Server
	mu   sync.Mutex
	got  []request
	says func(n int, r request) int
}

func newDoor(t *testing.T, says func(n int, r request) int) *door {
	t.Helper()
	d := &door{says: says}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		req := request{r.URL.Path, string(body), r.Header}
		d.mu.Lock()
		n := len(d.got)
		d.got = append(d.got, req)
		d.mu.Unlock()
		w.WriteHeader(d.says(n, req))
	}))
	t.Cleanup(d.Close)
	return d
}

// verify is what a provider's documentation tells a merchant to do.
func verify(r request) bool {
	h := r.header
	key, stamp, signed, got := []byte(stripeSecret), "", "", ""
	if r.path == "/callbacks/stripe" {
		var mac string
		stamp, mac, _ = strings.Cut(strings.TrimPrefix(h.Get("Stripe-Signature"), "t="), ",v1=")
		signed, got = stamp+"."+r.body, mac
	} else {
		key, stamp = []byte(standardKey), h.Get("webhook-timestamp")
		signed = h.Get("webhook-id") + "." + stamp + "." + r.body
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(h.Get("webhook-signature"), "v1,"))
		if err != nil {
			return false
		}
		got = hex.EncodeToString(raw)
	}
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, signed) // a hash takes everything
	at, err := strconv.ParseInt(stamp, 10, 64)
	away := time.Since(time.Unix(at, 0))
	return err == nil && away > -5*time.Minute && away < 5*time.Minute && got == hex.EncodeToString(mac.Sum(nil))
}

// run sends for as long as it takes until enough was sent, and returns what was told.
func run(t *testing.T, seed uint64, enough int64, doors ...*door) (*traffic.Sender, []traffic.Told) {
	t.Helper()
	var out strings.Builder
	var targets []string
	for _, d := range doors {
		targets = append(targets, d.URL)
	}
	s, err := traffic.New(traffic.Options{
		Seed: seed, Rate: 1e6, Targets: targets, Told: &out,
		StripeSecret: stripeSecret, StandardSecret: "whsec_" + base64.StdEncoding.EncodeToString([]byte(standardKey)),
	})
	if err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Run(t.Context(), stop) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.Sent() < enough {
		<-tick.C
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, read(t, out.String())
}

func read(t *testing.T, text string) (told []traffic.Told) {
	t.Helper()
	for line := range strings.Lines(text) {
		var l traffic.Told
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		told = append(told, l)
	}
	return told
}

// believing answers as a gateway that works.
func believing(_ int, r request) int {
	if !verify(r) {
		return http.StatusUnauthorized
	}
	return http.StatusOK
}

func TestEveryKindIsSentAndForgeriesAreNotBelieved(t *testing.T) {
	a, b := newDoor(t, believing), newDoor(t, believing)
	s, told := run(t, 7, 12_000, a, b)
	kinds, types, accounts := map[string]int{}, map[string]int{}, map[string]int{}
	for _, l := range told {
		kinds[l.Kind]++
		types[l.Type]++
		accounts[l.Account]++
		if l.OK != (l.Kind != "forgery") {
			t.Fatalf("%+v: a merchant who checks signatures would have said otherwise", l)
		}
	}
	for _, kind := range []string{"event", "again", "conflict", "forgery"} {
		if kinds[kind] < 10 {
			t.Errorf("%d of %s among %v", kinds[kind], kind, kinds)
		}
	}
	for _, typ := range []string{"payment.pending", "payment.authorized", "payment.succeeded", "payment.failed", "refund.succeeded", "unmapped"} {
		if types[typ] < 50 {
			t.Errorf("%d of %s among %v", types[typ], typ, types)
		}
	}
	for _, mark := range []string{traffic.Poisoned, traffic.Limping} {
		if !slices.ContainsFunc(told, func(l traffic.Told) bool { return strings.Contains(l.Order, mark) }) {
			t.Errorf("no order is %s", mark)
		}
	}
	if len(accounts) != 2 || len(a.got) < 1000 || len(b.got) < 1000 {
		t.Errorf("accounts %v, %d at one door and %d at the other", accounts, len(a.got), len(b.got))
	}
	if int64(len(told)) != s.Sent() || int64(len(told)-kinds["forgery"]) != s.Accepted() || s.InFlight() != 0 {
		t.Errorf("%d told, %d forged; counted %d sent, %d accepted, %d in flight", len(told), kinds["forgery"], s.Sent(), s.Accepted(), s.InFlight())
	}
	// The same facts in other bytes.
	words := map[string]map[string]bool{}
	for _, r := range slices.Concat(a.got, b.got) {
		if id := r.header.Get("webhook-id"); id != "" && verify(r) {
			if words[id] == nil {
				words[id] = map[string]bool{}
			}
			words[id][r.body[:9]] = true
		}
	}
	other := 0
	for _, w := range words {
		if len(w) > 1 {
			other++
		}
	}
	if other < 100 {
		t.Errorf("%d events were told in other words too", other)
	}
}

func TestSeedRepeatsWhatIsSent(t *testing.T) {
	facts := func(seed uint64) map[string]string {
		d := newDoor(t, believing)
		_, told := run(t, seed, 3000, d)
		m := map[string]string{}
		for _, l := range told {
			l.Status = 0
			text, err := json.Marshal(l)
			if err != nil {
				t.Fatal(err)
			}
			m[l.Kind+l.ID] = string(text)
		}
		return m
	}
	first, second, other := facts(5), facts(5), facts(6)
	common := 0
	for id, text := range first {
		if again, ok := second[id]; ok {
			common++
			if again != text {
				t.Fatalf("%s was %s and is %s", id, text, again)
			}
		}
		if _, ok := other[id]; ok {
			t.Fatalf("%s is of another seed too", id)
		}
	}
	if common < 1000 {
		t.Errorf("%d lines were told both times", common)
	}
}

func TestWhatWasNotAcceptedIsSentAgain(t *testing.T) {
	// Two of three requests fail, one of them without a reply.
	d := newDoor(t, func(n int, r request) int {
		switch n % 3 {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			return http.StatusServiceUnavailable
		default:
			return believing(n, r)
		}
	})
	_, told := run(t, 8, 300, d)
	ok := map[string]bool{}
	lost, refused := 0, 0
	for _, l := range told {
		ok[l.ID] = ok[l.ID] || l.OK || l.Kind == "forgery"
		if l.Status == 0 {
			lost++
		}
		if l.Status == http.StatusServiceUnavailable {
			refused++
		}
	}
	for id, accepted := range ok {
		if !accepted {
			t.Errorf("%s was given up", id)
		}
	}
	if lost == 0 || refused == 0 {
		t.Errorf("%d without a reply and %d refused, want some", lost, refused)
	}
}

func TestPinnedOrderWaitsForEachReplyAndKeepsItsDoor(t *testing.T) {
	first := http.StatusServiceUnavailable
	says := func(n int, r request) int {
		if n%4 == 0 {
			return first
		}
		return believing(n, r)
	}
	a, b := newDoor(t, says), newDoor(t, says)
	_, told := run(t, 9, 1000, a, b)
	pinned := map[string]bool{}
	accepted := map[string]int{} // the next fact's number, by order
	for _, l := range told {
		if !l.Pinned || l.Kind != "event" {
			continue
		}
		pinned[l.Order] = true
		if l.Seq > accepted[l.Order] {
			t.Fatalf("%s: fact %d was told before %d was accepted", l.Order, l.Seq, accepted[l.Order])
		}
		if l.OK {
			accepted[l.Order] = l.Seq + 1
		}
	}
	if len(pinned) < 50 {
		t.Errorf("%d orders are pinned", len(pinned))
	}
	at := map[string]*door{}
	for _, d := range []*door{a, b} {
		for _, r := range d.got {
			order, ok := orderOf(r)
			if !ok || !pinned[order] {
				continue
			}
			if at[order] != nil && at[order] != d {
				t.Fatalf("%s was told at both doors", order)
			}
			at[order] = d
		}
	}
}

// orderOf is the order that a signed callback of Standard Webhooks is about.
func orderOf(r request) (string, bool) {
	var body struct {
		Data struct {
			Order string `json:"order_id"`
		} `json:"data"`
	}
	err := json.Unmarshal([]byte(r.body), &body)
	return body.Data.Order, err == nil && body.Data.Order != ""
}

func TestSettleNamesWhatIsNeverAccepted(t *testing.T) {
	d := newDoor(t, func(_ int, r request) int {
		if order, _ := orderOf(r); strings.HasSuffix(order, "-3") {
			return http.StatusServiceUnavailable
		}
		return believing(0, r)
	})
	s, err := traffic.New(traffic.Options{
		Seed: 11, Rate: 1e6, Targets: []string{d.URL}, Told: io.Discard,
		StripeSecret: stripeSecret, StandardSecret: "whsec_" + base64.StdEncoding.EncodeToString([]byte(standardKey)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Run(ctx, stop) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.Sent() < 500 {
		<-tick.C
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	short, end := context.WithTimeout(ctx, 2*time.Second)
	defer end()
	if err := s.Settle(short); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "-3_") {
		t.Errorf("%v, want the facts of order 3", err)
	}
	cancel()
	s.Wait()
}

func TestPoisonThatIsAskedForIsSent(t *testing.T) {
	d := newDoor(t, believing)
	var out strings.Builder
	s, err := traffic.New(traffic.Options{
		Seed: 12, Rate: 1e6, Targets: []string{d.URL}, Told: &out,
		StripeSecret: stripeSecret, StandardSecret: "whsec_" + base64.StdEncoding.EncodeToString([]byte(standardKey)),
	})
	if err != nil {
		t.Fatal(err)
	}
	kinds := []traffic.Poison{traffic.Panics, traffic.Hangs, traffic.Kills}
	for _, kind := range kinds {
		s.Sicken(kind)
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Run(t.Context(), stop) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.Sent() < 100 {
		<-tick.C
	}
	close(stop)
	if err := errors.Join(<-ended, s.Settle(t.Context())); err != nil {
		t.Fatal(err)
	}
	for n, kind := range kinds {
		want := strconv.Itoa(n) + "-" + traffic.Poisoned + "-" + string(kind)
		if !slices.ContainsFunc(read(t, out.String()), func(l traffic.Told) bool { return strings.Contains(l.Order, want) && l.OK }) {
			t.Errorf("no order is %s", want)
		}
	}
}

func TestReplaySendsWhatWasAcceptedBefore(t *testing.T) {
	d := newDoor(t, believing)
	s, told := run(t, 10, 500, d)
	known := map[string]bool{}
	for _, l := range told {
		known[l.Kind+" "+l.ID] = true
	}
	before := s.Sent()
	if err := s.Replay(t.Context(), 50); err != nil {
		t.Fatal(err)
	}
	if s.Sent() != before+50 {
		t.Errorf("%d were sent again, want 50", s.Sent()-before)
	}
	for _, r := range d.got[before:] {
		if id := r.header.Get("webhook-id"); id != "" && !known["event "+id] || !verify(r) {
			t.Errorf("%q was never sent before", id)
		}
	}
}
