package admin_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/streams"
)

// send posts a body with headers given as pairs.
func send(t *testing.T, h http.Handler, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body))
	r.Host = "127.0.0.1:9090"
	for ; len(headers) >= 2; headers = headers[2:] {
		r.Header.Set(headers[0], headers[1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestDeadLettersAreReplayedAndDropped(t *testing.T) {
	var (
		group string
		logs  bytes.Buffer
	)
	source := deadLetters{letters: []streams.DeadLetter{{ID: "0-1-0"}, {ID: "1-2-0"}}, group: &group}
	a := newAdmin(t, admin.DefaultOptions(), func(d *admin.Deps) {
		d.DeadLetters, d.Logger = source, slog.New(slog.NewTextHandler(&logs, nil))
	})
	const json = "application/json; charset=utf-8"
	for _, c := range []struct{ path, body, want, log string }{
		{"replay", `{"ids":["0-1-0","9-9-9"]}`, "[{0-1-0 replayed} {9-9-9 missing}]", `group=points dead_letter=0-1-0 outcome=replayed`},
		{"drop", `{"ids":["1-2-0"],"because":"paid\nby hand"}`, "[{1-2-0 dropped}]", `group=points dead_letter=1-2-0 outcome=dropped because="paid by hand"`},
	} {
		got := answer[admin.DeadLetterResults](t, send(t, a, "/api/v1/deadletters/points/"+c.path, c.body, "Content-Type", json), 200)
		if fmt.Sprint(got.Results) != c.want || got.Problem != "" || group != "points" {
			t.Errorf("%s of %s: %+v", c.path, group, got)
		}
		if !strings.Contains(logs.String(), c.log) || strings.Contains(logs.String(), "9-9-9") {
			t.Errorf("%s is not logged, or too much is:\n%s", c.path, logs.String())
		}
	}
	source.err = streams.ErrUnavailable
	a = newAdmin(t, admin.DefaultOptions(), func(d *admin.Deps) { d.DeadLetters = source })
	got := answer[admin.DeadLetterResults](t, send(t, a, "/api/v1/deadletters/points/replay", `{"ids":["0-1-0","7-7-7"]}`, "Content-Type", json), 200)
	if fmt.Sprint(got.Results) != "[{0-1-0 replayed}]" || got.Problem == "" {
		t.Errorf("what was done before redis failed is not told: %+v", got)
	}
	if w := send(t, a, "/api/v1/deadletters/points/replay", `{"ids":["7-7-7"]}`, "Content-Type", json); w.Code != 503 {
		t.Errorf("nothing done: %d %s", w.Code, w.Body)
	}
}

func TestOrdersThatCannotBeReadDoNothing(t *testing.T) {
	group := "untouched"
	a := newAdmin(t, admin.DefaultOptions(), func(d *admin.Deps) { d.DeadLetters = deadLetters{group: &group} })
	many := `{"ids":["` + strings.Repeat(`1-1-1","`, 500) + `1-1-1"]}`
	for name, c := range map[string]struct {
		path, kind, body string
		status           int
	}{
		"a form":              {"replay", "application/x-www-form-urlencoded", "ids=1-1-1", 415},
		"plain text":          {"replay", "text/plain", `{"ids":["1-1-1"]}`, 415},
		"no type":             {"replay", "", `{"ids":["1-1-1"]}`, 415},
		"no json":             {"replay", "application/json", "ids", 400},
		"two objects":         {"replay", "application/json", `{"ids":["1-1-1"]}{}`, 400},
		"an unknown member":   {"replay", "application/json", `{"ids":["1-1-1"],"all":true}`, 400},
		"no dead letters":     {"replay", "application/json", `{"ids":[]}`, 400},
		"an empty one":        {"replay", "application/json", `{"ids":[""]}`, 400},
		"too many":            {"replay", "application/json", many, 400},
		"too large":           {"replay", "application/json", `{"ids":["` + strings.Repeat("1", 70<<10) + `"]}`, 400},
		"a drop with no word": {"drop", "application/json", `{"ids":["1-1-1"]}`, 400},
		"a parameter":         {"replay?dry=1", "application/json", `{"ids":["1-1-1"]}`, 400},
	} {
		if w := send(t, a, "/api/v1/deadletters/points/"+c.path, c.body, "Content-Type", c.kind); w.Code != c.status || group != "untouched" {
			t.Errorf("%s: %d %s (%s)", name, w.Code, w.Body, group)
		}
	}
	if w := send(t, a, "/api/v1/deadletters/points/replay", `{"ids":["1-1-1"]}`, "Content-Type", "application/json", "Sec-Fetch-Site", "cross-site"); w.Code != 403 || group != "untouched" {
		t.Errorf("another site's page: %d", w.Code)
	}
}
