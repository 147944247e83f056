package gateway_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway"
)

// TestRefusalsCannotFillTheLog: a flood leaves a handful of lines an account, and
// the next line says how many were left out.
func TestRefusalsCannotFillTheLog(t *testing.T) {
	now := noon
	d := newDoor(t, func(_ *gateway.Options, deps *gateway.Deps) { deps.Now = func() time.Time { return now } })
	forge := func() {
		r := request(t, "k1 payment.succeeded A1\n")
		r.Header.Set(signatureHeader, sign([]byte("something else"), now))
		d.ServeHTTP(httptest.NewRecorder(), r)
	}
	for range 500 {
		forge()
	}
	if got := strings.Count(d.log.String(), "callback refused"); got != 10 {
		t.Errorf("%d lines for 500 forged callbacks, want 10", got)
	}
	line, _, _ := strings.Cut(d.log.String(), "\n")
	// printf 'k1 payment.succeeded A1\n' | sha256sum
	for _, want := range []string{
		"level=WARN", "account=bell", "provider=bellpay", "reason=signature_mismatch", "size=24",
		"sha256=16e8176184508c3b5a701659c3c80e5297e2d5d2fa1af5fd12a3eb299af3682d",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
	// One account's flood does not silence another's trouble.
	r := request(t, "k1 payment.succeeded A1\n")
	r.URL.Path = "/callbacks/bell-nokey"
	d.ServeHTTP(httptest.NewRecorder(), r)
	if !strings.Contains(d.log.String(), "level=ERROR") {
		t.Error("the other account's failure is not logged")
	}
	now = now.Add(time.Second)
	forge()
	if !strings.Contains(d.log.String(), "lines_left_out=490") {
		t.Errorf("the log does not say what it left out:\n%s", d.log)
	}
	if got := d.count(t, "bell", "refused", "signature_mismatch"); got != 501 {
		t.Errorf("counted %v", got)
	}
}

// TestStraysInTheLog: a path is the sender's to choose, and gets no label and
// little room.
func TestStraysInTheLog(t *testing.T) {
	d := newDoor(t, nil)
	r := request(t, "")
	r.URL.Path = "/callbacks/" + strings.Repeat("a", 5000) + "\nlevel=ERROR"
	r.Method = strings.Repeat("M", 500)
	d.ServeHTTP(httptest.NewRecorder(), r)
	log := d.log.String()
	if len(log) > 400 || strings.Count(log, "\n") != 1 || !strings.Contains(log, "reason=") {
		t.Errorf("log:\n%s", log)
	}
}

// TestPanicsAreLoggedWithTheirStack, and without what a panic may quote.
func TestPanicsAreLoggedWithTheirStack(t *testing.T) {
	for body, want := range map[string]string{
		"panic in verify, quoting": "gateway: panic: string",
		"panic here now":           "slice bounds out of range",
	} {
		d := newDoor(t, nil)
		d.ServeHTTP(httptest.NewRecorder(), request(t, body))
		log := d.log.String()
		if !strings.Contains(log, want) || !strings.Contains(log, "bellProvider") || strings.Contains(log, body) {
			t.Errorf("%s: log:\n%s", body, log)
		}
	}
}

// TestAcceptedIsQuiet: an accepted callback is worth a line to nobody but who
// asked for debugging.
func TestAcceptedIsQuiet(t *testing.T) {
	d := newDoor(t, nil)
	d.ServeHTTP(httptest.NewRecorder(), request(t, "k1 payment.succeeded A1\n"))
	log := d.log.String()
	if !strings.Contains(log, "level=DEBUG") || !strings.Contains(log, "event_id=evt_") || strings.Count(log, "\n") != 1 {
		t.Errorf("log:\n%s", log)
	}
}
