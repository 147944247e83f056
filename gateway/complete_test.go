package gateway_test

import (
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/streams/event"
)

// TestEventsAreCompleted: the gateway alone says what a provider must not.
func TestEventsAreCompleted(t *testing.T) {
	d := newDoor(t, nil)
	body := "k1 payment.succeeded A1\nk2 refund.succeeded A1\n"
	w := httptest.NewRecorder()
	d.ServeHTTP(w, request(t, body))
	kept := d.appender.kept()
	if w.Code != 200 || len(kept) != 2 {
		t.Fatalf("got %d and %d entries", w.Code, len(kept))
	}
	for i, r := range kept {
		e := r.Event
		if e.Schema != event.Schema || e.Account != "bell" || e.Namespace != "shop" || e.Provider != "bellpay" || e.ConflictOf != "" {
			t.Errorf("%d: got %+v", i, e)
		}
		if want := event.NewID("bellpay", "bell", []string{"k1", "k2"}[i]); e.ID != want {
			t.Errorf("%d: id %s, want %s", i, e.ID, want)
		}
		if want := time.Date(2026, 3, 1, 12, 0, 0, 123e6, time.UTC); !e.ReceivedAt.Equal(want) || e.ReceivedAt.Location() != time.UTC {
			t.Errorf("%d: received at %s", i, e.ReceivedAt)
		}
		if want := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC); !e.OccurredAt.Equal(want) || e.OccurredAt.Location() != time.UTC {
			t.Errorf("%d: occurred at %s", i, e.OccurredAt)
		}
		// printf 'k1 payment.succeeded A1\nk2 refund.succeeded A1\n' | sha256sum
		if want := "b2264bdc8215aa419420bcf6b8ba5a1454c18ab81f820354a925dea9554e9176"; e.Raw.SHA256 != want || e.Raw.Index != i {
			t.Errorf("%d: raw %+v", i, e.Raw)
		}
		if !regexp.MustCompile(`^cb_[0-9a-hjkmnp-tv-z]{26}$`).MatchString(e.Raw.CallbackID) {
			t.Errorf("%d: callback id %q", i, e.Raw.CallbackID)
		}
		if r.Evidence.KeyID != "env:BELL" || r.Evidence.Headers[signatureHeader] == "" {
			t.Errorf("%d: evidence %+v", i, r.Evidence)
		}
	}
	if kept[0].Event.Raw.CallbackID != kept[1].Event.Raw.CallbackID {
		t.Error("the events of one callback name two")
	}
	if string(kept[0].Raw) != body || kept[0].Item != nil {
		t.Errorf("the first carries raw %q, item %q", kept[0].Raw, kept[0].Item)
	}
	if kept[1].Raw != nil || string(kept[1].Item) != "k2 refund.succeeded A1" {
		t.Errorf("the second carries raw %q, item %q", kept[1].Raw, kept[1].Item)
	}
	if got := d.appender.windows[0]; got != 7*24*time.Hour {
		t.Errorf("window %s", got)
	}
	if got := d.sum(t, "paybell_gateway_events_total", "bell", "payment.succeeded", "new"); got != 1 {
		t.Errorf("counted %v", got)
	}
}

// TestUnreadableIsKept: an authentic callback that says nothing we can read is an
// event all the same, once, and moves no money.
func TestUnreadableIsKept(t *testing.T) {
	for name, body := range map[string]string{"malformed": "k1 secret-customer\n", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t, nil)
			for range 2 {
				w := httptest.NewRecorder()
				d.ServeHTTP(w, request(t, body))
				if w.Code != 200 || w.Body.String() != "rung" {
					t.Fatalf("got %d %q", w.Code, w.Body)
				}
			}
			kept := d.appender.kept()
			if len(kept) != 1 {
				t.Fatalf("%d entries", len(kept))
			}
			e := kept[0].Event
			if !e.Undecodable() || e.Type != event.Unmapped || e.MovesMoney() || e.Completeness != event.NeedsFetch || string(kept[0].Raw) != body {
				t.Errorf("got %+v", e)
			}
			if d.count(t, "bell", "accepted", "undecodable") != 1 || d.count(t, "bell", "duplicate", "undecodable") != 1 {
				t.Error("the two deliveries are not counted as an accepted and a duplicate one")
			}
			if log := d.log.String(); !strings.Contains(log, "callback kept without being understood") || strings.Contains(log, "secret-customer") {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

// TestSameKeyTwiceInOneCallback: the append tells a repetition from a conflict,
// inside one callback as over two.
func TestSameKeyTwiceInOneCallback(t *testing.T) {
	d := newDoor(t, nil)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, request(t, "k1 payment.succeeded A1\nk1 payment.succeeded A1\nk1 payment.succeeded B2\n"))
	if w.Code != 200 || len(d.appender.kept()) != 1 {
		t.Errorf("got %d, %d entries", w.Code, len(d.appender.kept()))
	}
	for result, want := range map[string]float64{"new": 1, "duplicate": 1, "conflict": 1} {
		if got := d.sum(t, "paybell_gateway_events_total", "bell", result); got != want {
			t.Errorf("%s: counted %v, want %v", result, got, want)
		}
	}
	if got := d.count(t, "bell", "conflict"); got != 1 {
		t.Errorf("counted %v callbacks in conflict", got)
	}
}

// TestUnwritableIsKept: an event that no entry can hold is kept as an unreadable
// one, under an ID of its own, and its neighbour as what it is.
func TestUnwritableIsKept(t *testing.T) {
	d := newDoor(t, nil)
	body := "k1 payment.succeeded A1 whole\nk2 payment.succeeded A2 torn\n"
	for range 2 {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, request(t, body))
		if w.Code != 200 {
			t.Fatalf("got %d %q:\n%s", w.Code, w.Body, d.log)
		}
	}
	kept := d.appender.kept()
	if len(kept) != 2 {
		t.Fatalf("%d entries", len(kept))
	}
	if whole := kept[0].Event; whole.ID != event.NewID("bellpay", "bell", "k1") || !whole.MovesMoney() || whole.Undecodable() {
		t.Errorf("the neighbour: %+v", whole)
	}
	torn := kept[1]
	if e := torn.Event; !e.Undecodable() || e.Type != event.Unmapped || e.MovesMoney() || e.Payment != nil || e.ID == event.NewID("bellpay", "bell", "k2") ||
		e.Raw.Index != 1 || e.Account != "bell" || e.Namespace != "shop" || e.ReceivedAt.IsZero() || string(torn.Item) != "k2 payment.succeeded A2 torn" {
		t.Errorf("got %+v, item %q", e, torn.Item)
	}
	if d.count(t, "bell", "accepted", "undecodable") != 1 || d.count(t, "bell", "duplicate", "undecodable") != 1 {
		t.Error("the two deliveries are not counted as an accepted and a duplicate one")
	}
}

// TestReferenceThatCannotBeKeptIsLeftOut: a customer reference that no database can hold
// must not cost the payment.
func TestReferenceThatCannotBeKeptIsLeftOut(t *testing.T) {
	d := newDoor(t, nil)
	long := strings.Repeat("客", 513)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, request(t, "k1 refund.succeeded A1 whole "+long+"\nk2 payment.succeeded A2 whole "+strings.Repeat("客", 492)+"\n"))
	kept := d.appender.kept()
	if w.Code != 200 || len(kept) != 2 {
		t.Fatalf("got %d and %d entries", w.Code, len(kept))
	}
	if e := kept[0].Event; !e.MovesMoney() || e.Merchant.CustomerRef != "" || e.Refund.OrderRef != "" ||
		!slices.Equal(e.LeftOut, []string{event.LeftOutCustomerRef, event.LeftOutRefundOrderRef}) {
		t.Errorf("a long reference: %+v", e)
	}
	if e := kept[1].Event; len(e.Merchant.CustomerRef) != 3*492 || e.LeftOut != nil {
		t.Errorf("a reference of 492 characters: %+v", e)
	}
}

// TestUnsaidMovesNoMoney: what a provider leaves out is taken for the least, and
// only the append may call an event a conflict.
func TestUnsaidMovesNoMoney(t *testing.T) {
	d := newDoor(t, nil)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, request(t, "k1 - A1\nk2 conflict A1\n"))
	kept := d.appender.kept()
	if w.Code != 200 || len(kept) != 2 {
		t.Fatalf("got %d and %d entries", w.Code, len(kept))
	}
	if e := kept[0].Event; e.Undecodable() || e.Type != event.Unmapped || e.Authenticity != event.Unverified || e.Completeness != event.NeedsFetch || !e.OccurredAt.IsZero() {
		t.Errorf("unsaid: %+v", e)
	}
	if e := kept[1].Event; e.Type != event.Unmapped || e.ConflictOf != "" {
		t.Errorf("conflict: %+v", e)
	}
}
