package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/streams"
)

// letters are dead letters whose pages hold at most one each, and every other page
// none, as those of a query that selects few of very many.
type letters struct {
	ids     []string // newest first
	asked   []streams.DeadLetterQuery
	dropped []string
	// room is how many may be replayed at each try, all of them where it is nil.
	room     func() int
	replayed []string
}

func (l *letters) List(_ context.Context, _ string, q streams.DeadLetterQuery) (streams.DeadLetterPage, error) {
	l.asked = append(l.asked, q)
	var page streams.DeadLetterPage
	at, half := 0, ""
	if q.After != "" {
		after, found := strings.CutSuffix(q.After, "-half")
		at = slices.Index(l.ids, after) + 1
		half = q.After
		if !found {
			half = ""
		}
	}
	switch {
	case at >= len(l.ids):
	case half == "": // nothing is found, and there is more
		page.Next = "start-half"
		if at > 0 {
			page.Next = l.ids[at-1] + "-half"
		}
	default:
		page.DeadLetters = []streams.DeadLetter{{ID: l.ids[at], Group: "points"}}
		if at+1 < len(l.ids) {
			page.Next = l.ids[at]
		}
	}
	return page, nil
}

func (l *letters) Show(_ context.Context, _, id string) (streams.DeadLetter, error) {
	if !slices.Contains(l.ids, id) {
		return streams.DeadLetter{}, streams.ErrNoDeadLetter
	}
	return streams.DeadLetter{ID: id}, nil
}

func (l *letters) Replay(_ context.Context, _ string, ids []string) (out []streams.DeadLetterResult, err error) {
	if l.room == nil {
		return nil, errors.New("nobody asked for a replay")
	}
	room := l.room()
	for _, id := range ids {
		outcome := streams.Full
		if room > 0 {
			room--
			outcome = streams.Replayed
			l.replayed = append(l.replayed, id)
		}
		out = append(out, streams.DeadLetterResult{ID: id, Outcome: outcome})
	}
	return out, nil
}

func (l *letters) Drop(_ context.Context, _ string, ids []string) (out []streams.DeadLetterResult, err error) {
	for _, id := range ids {
		l.dropped = append(l.dropped, id)
		out = append(out, streams.DeadLetterResult{ID: id, Outcome: streams.Dropped})
	}
	return out, nil
}

// door opens an operator's door over the letters and returns its address.
func (l *letters) door(t *testing.T) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	a, err := admin.New(admin.DefaultOptions(), admin.Deps{
		Logger: slog.New(slog.DiscardHandler), Gatherer: registry, Registerer: registry, DeadLetters: l,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	return server.URL
}

// command runs paybell in this process and returns its exit code and what it printed.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	out, outText := capture(t)
	errs, errText := capture(t)
	was, wasErr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = out, errs
	defer func() { os.Stdout, os.Stderr = was, wasErr }()
	code = run(t.Context(), args)
	return code, outText(), errText()
}

func capture(t *testing.T) (f *os.File, text func() string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // what it holds was read
	return f, func() string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// TestPagesWithoutRowsAreNotTheLast: the commands go on as long as there is a cursor.
func TestPagesWithoutRowsAreNotTheLast(t *testing.T) {
	l := &letters{ids: []string{"0-3-0", "0-2-0", "0-1-0"}}
	door := l.door(t)
	for _, c := range []struct {
		args []string
		want []string
		more string
	}{
		{nil, []string{"0-3-0", "0-2-0", "0-1-0"}, ""},
		{[]string{"--limit", "2"}, []string{"0-3-0", "0-2-0"}, "0-2-0"},
		{[]string{"--cursor", "0-2-0"}, []string{"0-1-0"}, ""},
	} {
		args := append([]string{"deadletters", "list", "points", "--reason", "cap", "--admin", door}, c.args...)
		code, out, text := command(t, append(args, "-o", "json")...)
		var page deadletterPage
		if err := json.Unmarshal([]byte(out), &page); err != nil || code != 0 {
			t.Fatalf("%v: exit %d, %v\n%s%s", c.args, code, err, out, text)
		}
		var got []string
		for _, d := range page.DeadLetters {
			got = append(got, d.ID)
		}
		if !slices.Equal(got, c.want) || page.Cursor != c.more {
			t.Errorf("%v: %v, cursor %q; want %v, %q", c.args, got, page.Cursor, c.want, c.more)
		}
		if _, out, _ := command(t, args...); strings.Count(out, "\n0-") != len(c.want) || strings.Contains(out, "--cursor") != (c.more != "") {
			t.Errorf("%v as a table:\n%s", c.args, out)
		}
	}
	if code, _, text := command(t, "deadletters", "list", "points", "--limit", "0", "--admin", door); code != exitConfig || !strings.Contains(text, "--limit") {
		t.Errorf("a limit of none: exit %d\n%s", code, text)
	}
	if code, out, text := command(t, "deadletters", "drop", "points", "--reason", "cap", "--because", "test", "--yes", "--admin", door); code != 0 || !strings.Contains(out, "3 selected, 3 dropped") {
		t.Errorf("drop: exit %d\n%s%s", code, out, text)
	}
	if want := []string{"0-1-0", "0-2-0", "0-3-0"}; !slices.Equal(l.dropped, want) {
		t.Errorf("dropped %v, want %v", l.dropped, want)
	}
}

// TestEmptyArgumentsSelectNothing: a variable of a script that is not set must not
// widen what the command is about.
func TestEmptyArgumentsSelectNothing(t *testing.T) {
	l := &letters{ids: []string{"0-2-0", "0-1-0"}}
	door := l.door(t)
	drop := []string{"deadletters", "drop", "points", "--because", "test", "--yes", "--admin", door}
	for _, c := range []struct {
		args []string
		want string
	}{
		{append(drop, "--reason", "cap", "--order", ""), "--order: is empty"},
		{append(drop, "--reason", "cap", "--order="), "--order: is empty"},
		{append(drop, "--all", "--since", ""), "--since: is empty"},
		{append(drop, ""), "<id>: is empty"},
		{append(drop, "0-1-0", ""), "<id>: is empty"},
		{[]string{"replay", "", "--all", "--yes", "--admin", door}, "<group>: is empty"},
		{[]string{"replay", "points", "--all", "--yes", "--admin", ""}, "--admin: is empty"},
		{[]string{"deadletters", "list", "points", "--account", "", "--admin", door}, "--account: is empty"},
		{[]string{"status", "--order", "", "--admin", door}, "--order: is empty"},
		{[]string{"config", "print", "--config", ""}, "--config: is empty"},
		{[]string{"config", "print", "--set", ""}, "--set: is empty"},
		{append(drop, "--all", "--rate=-1"), "--rate: must not be negative"},
	} {
		if code, out, text := command(t, c.args...); code != exitConfig || !strings.Contains(text, c.want) {
			t.Errorf("%q: exit %d, want %s in:\n%s%s", c.args, code, c.want, out, text)
		}
	}
	t.Setenv("PAYBELL_CONFIG", "")
	if code, _, text := command(t, "config", "print"); code != exitConfig || !strings.Contains(text, "PAYBELL_CONFIG: is empty") {
		t.Errorf("PAYBELL_CONFIG: exit %d\n%s", code, text)
	}
	if len(l.asked) > 0 || len(l.dropped) > 0 {
		t.Errorf("asked for %+v, dropped %v", l.asked, l.dropped)
	}
}

// TestDryRunNamesWhatThereIs: what it lists is what would be done.
func TestDryRunNamesWhatThereIs(t *testing.T) {
	l := &letters{ids: []string{"0-2-0", "0-1-0"}}
	dry := []string{"replay", "points", "--dry-run", "--admin", l.door(t)}
	for _, c := range []struct {
		args       []string
		json, text string
	}{
		{[]string{"--all"}, `{"selected":2,"dry_run":true,"ids":["0-1-0","0-2-0"]}`, "2 selected; nothing was done\n0-1-0\n0-2-0"},
		{[]string{"0-2-0", "0-9-0"}, `{"selected":1,"dry_run":true,"ids":["0-2-0"],"missing":["0-9-0"]}`, "1 selected, 1 missing; nothing was done\n0-2-0\n0-9-0 is missing"},
		{[]string{"0-9-0"}, `{"selected":0,"dry_run":true,"ids":[],"missing":["0-9-0"]}`, "0 selected, 1 missing; nothing was done\n0-9-0 is missing"},
	} {
		if code, out, text := command(t, slices.Concat(dry, c.args, []string{"-o", "json"})...); code != 0 || strings.TrimSpace(out) != c.json {
			t.Errorf("%v: exit %d, %s%s; want %s", c.args, code, out, text, c.json)
		}
		if code, out, text := command(t, slices.Concat(dry, c.args)...); code != 0 || strings.TrimSpace(out) != c.text {
			t.Errorf("%v: exit %d, %s%s; want %s", c.args, code, out, text, c.text)
		}
	}
}

// answers is a door that answers by itself.
type answers func(*http.Request) string

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(a(r))), Request: r}, nil
}

// TestRateIsKeptAfterAStall: what an answer held up is not made good for.
func TestRateIsKeptAfterAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		begun := time.Now()
		client := &adminClient{base: "http://door", http: &http.Client{Transport: answers(func(*http.Request) string {
			at = append(at, time.Since(begun))
			if len(at) == 2 {
				<-time.After(3 * time.Second)
			}
			return `{"results":[]}`
		})}}
		s := selection{Group: "points", Rate: 20} // two every tenth of a second
		err := s.carryOut(t.Context(), client, "replay", make([]string, 10),
			func(ids []string) any { return admin.ReplayRequest{IDs: ids} }, func([]streams.DeadLetterResult) {})
		if err != nil {
			t.Fatal(err)
		}
		const tenth = 100 * time.Millisecond
		if want := []time.Duration{0, tenth, 31 * tenth, 32 * tenth, 33 * tenth}; !slices.Equal(at, want) {
			t.Errorf("asked at %v, want %v", at, want)
		}
	})
}

func TestQuestion(t *testing.T) {
	for text, yes := range map[string]bool{"y\n": true, "YES\n": true, "y": true, "n\n": false, "\n": false, "": false, "yesterday\n": false} {
		if err := ask(t.Context(), strings.NewReader(text), io.Discard, "drop?"); (err == nil) != yes {
			t.Errorf("%q: %v", text, err)
		}
	}
	// A terminal that nobody types at does not keep Ctrl-C from ending the command.
	in, typed := io.Pipe()
	defer typed.Close()
	ctx, interrupt := context.WithCancelCause(t.Context())
	var shown bytes.Buffer
	ended := make(chan error, 1)
	go func() { ended <- ask(ctx, in, &shown, "drop 3 dead letters of points?") }()
	interrupt(errors.New("interrupt"))
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "interrupt") || !strings.Contains(shown.String(), "[y/N]") {
			t.Errorf("%v, shown %q", err, shown.String())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still waiting for an answer")
	}
}

// TestBadSecretsEndWithTheCodeOfTheConfiguration: whoever starts a process that cannot
// run until the configuration is mended is told so by the code, of check and start.
func TestBadSecretsEndWithTheCodeOfTheConfiguration(t *testing.T) {
	set := []string{
		"--data-dir", t.TempDir(), "--set", "streams.redis={address: 'redis:6379', password: {file: /nowhere/password}}",
		"--set", "database.postgres.file=/nowhere/dsn", "--set", "accounts.a={provider: stripe, options: {secrets: [{file: /nowhere/stripe}]}}",
	}
	for args, n := range map[string]int{
		"config check": 3, "config check --for worker": 3, "config check --for gateway": 2, "serve": 3, "worker": 3, "gateway": 2, "migrate": 1,
	} {
		code, out, text := command(t, slices.Concat(strings.Fields(args), set)...)
		if code != exitConfig || strings.Count(text, "/nowhere/") != n || n > 1 && !strings.Contains(text, fmt.Sprintf("%d problems", n)) {
			t.Errorf("%s: exit %d, want %d and %d problems\n%s%s", args, code, exitConfig, n, out, text)
		}
	}
	if code, out, text := command(t, "config", "check", "--data-dir", t.TempDir()); code != 0 || !strings.Contains(out, "good") {
		t.Errorf("the embedded default: exit %d\n%s%s", code, out, text)
	}
}

// TestReplayWaitsForRoom: what finds none is tried again until the group has worked off
// enough, in its order, and none is replayed twice.
func TestReplayWaitsForRoom(t *testing.T) {
	l := &letters{room: func() int { return 2 }}
	ids := []string{"0-1-0", "0-2-0", "0-3-0", "0-4-0", "0-5-0"}
	code, out, errs := command(t, append([]string{"replay", "points", "--yes", "--rate", "0", "--admin", l.door(t)}, ids...)...)
	if code != 0 || !strings.Contains(out, "5 selected, 5 replayed") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if !slices.Equal(l.replayed, ids) {
		t.Errorf("replayed %v, want %v", l.replayed, ids)
	}
}
