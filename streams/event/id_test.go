package event_test

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/paybell/paybell/streams/event"
)

// byHand is the definition of an ID, written out.
func byHand(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "evt_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:26]
}

func TestNewID(t *testing.T) {
	id := event.NewID("alipay", "alipay-main", "2019081500222155624068450559358070")
	if want := byHand("alipay\x1falipay-main\x1f2019081500222155624068450559358070"); id != want {
		t.Errorf("%s, want %s", id, want)
	}
	if !regexp.MustCompile(`^evt_[a-z2-7]{26}$`).MatchString(id) {
		t.Errorf("%s has another form", id)
	}
}

func TestNewBodyID(t *testing.T) {
	sum := sha256.Sum256([]byte(`{"a":1}`))
	text := hex.EncodeToString(sum[:])
	for index := range 3 {
		want := byHand(fmt.Sprintf("razorpay\x1frzp-in\x1f%s\x1f%d", text, index))
		if got := event.NewBodyID("razorpay", "rzp-in", sum, index); got != want {
			t.Errorf("index %d: %s, want %s", index, got, want)
		}
	}
}

func TestIDsAreGolden(t *testing.T) {
	sum := sha256.Sum256([]byte("body"))
	golden(t, "ids", strings.Join([]string{
		event.NewID("stripe", "stripe-eu", "evt_1NG8Du2eZvKYlo2CUI79vXWy"),
		event.NewID("stripe", "stripe-us", "evt_1NG8Du2eZvKYlo2CUI79vXWy"),
		event.NewBodyID("razorpay", "rzp-in", sum, 0),
		event.NewBodyID("razorpay", "rzp-in", sum, 1),
		event.ConflictID("evt_aaaaaaaaaaaaaaaaaaaaaaaaaa", 1),
		event.ConflictID("evt_aaaaaaaaaaaaaaaaaaaaaaaaaa", 2),
		"",
	}, "\n"))
}

func TestIDsDiffer(t *testing.T) {
	seen := make(map[string]string)
	sum := sha256.Sum256(nil)
	for name, id := range map[string]string{
		"key":                event.NewID("p", "a", "k"),
		"other account":      event.NewID("p", "b", "k"),
		"other provider":     event.NewID("q", "a", "k"),
		"shifted":            event.NewID("p", "ak", ""),
		"body":               event.NewBodyID("p", "a", sum, 0),
		"next in the body":   event.NewBodyID("p", "a", sum, 1),
		"conflict":           event.ConflictID("k", 1),
		"conflict as by key": event.NewID("conflict", "k", event.Facts(1).String()),
	} {
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s share %s", name, other, id)
		}
		seen[id] = name
	}
}

func TestAsConflict(t *testing.T) {
	first := succeeded()
	e := succeeded()
	e.Payment.Amount = money(t, "1.00", "CNY")
	c := e.AsConflict()
	if c.Type != event.Conflict || c.ConflictOf != first.ID || c.ID == first.ID {
		t.Errorf("type %s, conflict of %q, ID %s", c.Type, c.ConflictOf, c.ID)
	}
	if again := e.AsConflict(); again.ID != c.ID {
		t.Error("the same conflict, sent again, has another ID")
	}
	if other := first.AsConflict(); other.ID == c.ID {
		t.Error("other facts have the same conflict ID")
	}
	if e.Type != event.PaymentSucceeded || e.ID != first.ID {
		t.Error("the event itself was changed")
	}
	if c.MovesMoney() {
		t.Error("a conflict moves money")
	}
}
