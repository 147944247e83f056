// Package traffic plays the payment companies of a fault run: it signs callbacks with
// code of its own, sends them and sends them again until they are accepted, in copies,
// in other words, out of order, and between them what a forger would send.
package traffic

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// inFlightOrders bounds the orders that are told at once.
	inFlightOrders = 256
	// patience is how long a provider waits for a reply.
	patience = 8 * time.Second
	// retryAfter is how soon it sends again what was not accepted.
	retryAfter = 300 * time.Millisecond
)

// named is how many of the facts that were not accepted an error names.
const named = 10

// Options are what a Sender is asked to do.
type Options struct {
	Seed uint64
	// Rate is callbacks a second.
	Rate float64
	// Targets are the gateways' addresses.
	Targets                      []string
	StripeSecret, StandardSecret string
	// Told gets a line of JSON for each callback.
	Told io.Writer
}

// Sender is the providers of one run. Its methods are safe for concurrent use.
type Sender struct {
	o           Options
	run         string
	standardKey []byte
	client      *http.Client
	orders      sync.WaitGroup

	inFlight, sent, accepted atomic.Int64

	mu   sync.Mutex
	rand *rand.Rand
	next time.Time // when the next callback may be sent
	told *json.Encoder
	// past are facts that were accepted, some of them, for Replay.
	past []past
	// open are the facts that are sent until they are accepted, by the provider's id.
	open map[string]bool
	// ill are the kinds of poison that the next orders shall have.
	ill []Poison
	err error
}

type past struct {
	o   order
	seq int
}

// New returns a Sender that has sent nothing yet.
func New(o Options) (*Sender, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(o.StandardSecret, "whsec_"))
	if err != nil {
		return nil, fmt.Errorf("traffic: secret of Standard Webhooks: %w", err)
	}
	return &Sender{
		o: o, run: "f" + strconv.FormatUint(o.Seed%1_000_000_000, 36), standardKey: key,
		client: &http.Client{Timeout: patience, Transport: &http.Transport{
			MaxIdleConnsPerHost: inFlightOrders, DialContext: (&net.Dialer{Timeout: time.Second}).DialContext,
		}},
		rand: rand.New(rand.NewPCG(o.Seed, 3)), //nolint:gosec // a seed repeats a run
		told: json.NewEncoder(o.Told), open: map[string]bool{},
	}, nil
}

// InFlight is how many callbacks have no reply yet, Sent how many were sent, and
// Accepted how many of them got a success reply.
func (s *Sender) InFlight() int { return int(s.inFlight.Load()) }

// Sent is how many callbacks were sent.
func (s *Sender) Sent() int64 { return s.sent.Load() }

// Accepted is how many callbacks got a success reply.
func (s *Sender) Accepted() int64 { return s.accepted.Load() }

// Sicken makes the next order a poisoned one of a kind.
func (s *Sender) Sicken(kind Poison) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ill = append(s.ill, kind)
}

// Run begins new orders until stop is closed. Those that it has begun go on until all
// they tell is accepted, for which Settle waits, or ctx ends.
func (s *Sender) Run(ctx context.Context, stop <-chan struct{}) error {
	places := make(chan struct{}, inFlightOrders)
	for n := 0; ; n++ {
		select {
		case <-stop:
			return s.failed()
		case <-ctx.Done():
			s.orders.Wait()
			return s.failed()
		case places <- struct{}{}:
		}
		o, seed := s.order(n)
		s.orders.Go(func() {
			defer func() { <-places }()
			s.tell(ctx, &o, rand.New(rand.NewPCG(seed, uint64(n)))) //nolint:gosec // a seed repeats a run
		})
	}
}

func (s *Sender) order(n int) (order, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ill Poison
	if len(s.ill) > 0 {
		ill, s.ill = s.ill[0], s.ill[1:]
	}
	return newOrder(s.run, n, ill, s.rand), s.rand.Uint64()
}

// Settle returns when everything that was begun has been accepted. Run must have
// returned. Where ctx ends before, its error names what was not accepted.
func (s *Sender) Settle(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.orders.Wait()
		close(done)
	}()
	select {
	case <-done:
		return s.failed()
	case <-ctx.Done():
		return fmt.Errorf("traffic: %s: %w", s.refused(), ctx.Err())
	}
}

// Wait returns when no order is told any more. Run must have returned.
func (s *Sender) Wait() { s.orders.Wait() }

// refused says which facts have not been accepted.
func (s *Sender) refused() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := slices.Sorted(maps.Keys(s.open))
	return fmt.Sprintf("%d facts were not accepted, among them %s", len(ids), strings.Join(ids[:min(named, len(ids))], ", "))
}

// failed is what kept the lines from being written.
func (s *Sender) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Replay sends again n facts that were accepted before.
func (s *Sender) Replay(ctx context.Context, n int) error {
	s.mu.Lock()
	facts := s.past
	s.mu.Unlock()
	for i := range min(n, len(facts)) {
		p := &facts[i]
		for !s.send(ctx, "replay", &p.o, p.seq, i, false) {
			if !wait(ctx, retryAfter) {
				return fmt.Errorf("traffic: %s was not accepted again: %w", p.o.id(p.seq), ctx.Err())
			}
		}
	}
	return s.failed()
}

// tell tells all facts of an order.
func (s *Sender) tell(ctx context.Context, o *order, r *rand.Rand) {
	target := r.IntN(len(s.o.Targets))
	if r.IntN(12) == 0 {
		s.forge(ctx, o, r, target)
	}
	if o.pinned {
		for seq := range o.facts {
			s.insist(ctx, o, seq, target, r.IntN(10))
		}
	} else {
		// All at once, and each to any gateway: they arrive in any order.
		var all sync.WaitGroup
		for _, seq := range r.Perm(len(o.facts)) {
			to, how := r.IntN(len(s.o.Targets)), r.IntN(10)
			all.Go(func() { s.insist(ctx, o, seq, to, how) })
		}
		all.Wait()
	}
	if o.conflict {
		other := *o
		other.facts = []fact{{o.facts[0].kind, o.facts[0].dollars + 1}}
		s.persist(ctx, "conflict", &other, 0, target)
	}
	s.mu.Lock()
	if len(s.past) < 2000 && !o.conflict && ctx.Err() == nil {
		s.past = append(s.past, past{*o, 0})
	}
	s.mu.Unlock()
}

// insist sends a fact until it is accepted, and in some ways more often.
func (s *Sender) insist(ctx context.Context, o *order, seq, target, how int) {
	// A pinned order has one door: what another takes may overtake what waits in the
	// journal of this one.
	other := target + 1
	if o.pinned {
		other = target
	}
	var copies sync.WaitGroup
	if how < 4 { // a copy at the same moment
		copies.Go(func() { s.send(ctx, "again", o, seq, other, false) })
	}
	s.persist(ctx, "event", o, seq, target)
	copies.Wait()
	if how >= 3 && how < 7 { // once more, in other bytes
		s.send(ctx, "again", o, seq, other, true)
	}
	if how >= 6 {
		s.send(ctx, "again", o, seq, target, false)
	}
}

// persist sends a fact until it is accepted.
func (s *Sender) persist(ctx context.Context, kind string, o *order, seq, target int) {
	id := kind + " " + o.id(seq)
	s.mu.Lock()
	s.open[id] = true
	s.mu.Unlock()
	for !s.send(ctx, kind, o, seq, target, false) {
		if !wait(ctx, retryAfter) {
			return
		}
	}
	s.mu.Lock()
	delete(s.open, id)
	s.mu.Unlock()
}

// send sends one callback and reports whether it was accepted.
func (s *Sender) send(ctx context.Context, kind string, o *order, seq, target int, rerendered bool) bool {
	s.pace(ctx)
	at := time.Now()
	cb := s.sign(o.account, o.id(seq), o.render(seq, o.facts[seq].dollars, at, rerendered), at)
	status := s.post(ctx, cb, target)
	ok := status >= 200 && status < 300
	if ok {
		s.accepted.Add(1)
	}
	s.note(Told{
		Kind: kind, Provider: providers[o.account], Account: o.account, ID: o.id(seq), Order: o.ref, Customer: o.customer,
		Seq: seq, Type: o.facts[seq].kind, Dollars: o.facts[seq].dollars, Pinned: o.pinned, Status: status, OK: ok,
	})
	return ok
}

// providers are the names of the accounts' providers.
var providers = map[string]string{stripe: "stripe", standard: "standardwebhooks"}

// forge sends what no provider has signed.
func (s *Sender) forge(ctx context.Context, o *order, r *rand.Rand, target int) {
	f := *o
	f.ref, f.facts = o.ref+"-"+Forgery, []fact{{"payment.succeeded", 1000}}
	at := time.Now()
	body := f.render(0, 1000, at, false)
	var cb callback
	switch r.IntN(5) {
	case 0: // another's secret
		liar := &Sender{o: Options{StripeSecret: "whsec_guessed"}, standardKey: []byte("guessed")} //nolint:gosec // nobody's
		cb = liar.sign(f.account, f.id(0), body, at)
	case 1: // signed, and altered then
		cb = s.sign(f.account, f.id(0), body, at)
		cb.body = strings.Replace(body, "1000", "9999", 1)
	case 2: // recorded an hour ago
		cb = s.sign(f.account, f.id(0), body, at.Add(-time.Hour))
	case 3: // from an hour ahead
		cb = s.sign(f.account, f.id(0), body, at.Add(time.Hour))
	default:
		cb = s.sign(f.account, f.id(0), body, at)
		cb.header.Del("Stripe-Signature")
		cb.header.Del("webhook-signature")
	}
	s.pace(ctx)
	status := s.post(ctx, cb, target)
	s.note(Told{
		Kind: "forgery", Provider: providers[f.account], Account: f.account, ID: f.id(0), Order: f.ref, Type: "payment.succeeded",
		Dollars: 1000, Status: status, OK: status >= 200 && status < 300,
	})
}

// post sends a callback; 0 means that no reply came.
func (s *Sender) post(ctx context.Context, cb callback, target int) int {
	url := s.o.Targets[target%len(s.o.Targets)] + "/callbacks/" + cb.account
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(cb.body))
	if err != nil {
		return 0
	}
	req.Header = cb.header
	s.sent.Add(1)
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0 // half a reply is none
	}
	return resp.StatusCode
}

func (s *Sender) note(t Told) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.told.Encode(t); err != nil && s.err == nil {
		s.err = err
	}
}

// pace waits for the callback's turn, so that there are Rate a second. What was missed
// is not made up for.
func (s *Sender) pace(ctx context.Context) {
	s.mu.Lock()
	now := time.Now()
	if s.next.Before(now) {
		s.next = now
	}
	turn := s.next
	s.next = turn.Add(time.Duration(float64(time.Second) / s.o.Rate))
	s.mu.Unlock()
	wait(ctx, time.Until(turn))
}

func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
