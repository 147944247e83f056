package main_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// TestStatusTellsOfUndecodableCallbacks: the command tells of an authentic callback that
// could not be decoded, whichever process it asks, and of its resend no more.
func TestStatusTellsOfUndecodableCallbacks(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("everysec")...)
	s := newStack(t, server.Addr(), "unused")
	key := sha256.Sum256([]byte(t.Name()))
	t.Setenv("SENDER_TEST_SECRET", "whsec_"+base64.StdEncoding.EncodeToString(key[:]))
	config, err := os.OpenFile(s.config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = config.WriteString("  sender:\n    provider: standardwebhooks\n    options: {secrets: [{env: SENDER_TEST_SECRET}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := config.Close(); err != nil {
		t.Fatal(err)
	}
	s.start("gateway", s.gatewayURL)
	other := freeAddress(t) // of a gateway that took no callback
	s.startAt("gateway", other, "--set", "gateway.address=127.0.0.1:0", "--set", "data_dir="+filepath.Join(t.TempDir(), "data"))
	status := func(args ...string) (string, error) {
		out, err := s.command(append([]string{"status", "--admin", "http://" + other}, args...)...).CombinedOutput()
		return string(out), err
	}
	waitUntil(t, 20*time.Second, "the other gateway answers", func() bool {
		_, err := status()
		return err == nil
	})
	told := func(after, line string, count int64) {
		t.Helper()
		table, err := status()
		if err != nil || line == "" && strings.Contains(table, "undecodable") || !strings.Contains(table, line) {
			t.Errorf("after %s: %v, want %q in\n%s", after, err, line, table)
		}
		var st struct {
			Undecodable *int64 `json:"undecodable"`
		}
		text, err := status("--output", "json")
		if err == nil {
			err = json.Unmarshal([]byte(text), &st)
		}
		if err != nil || st.Undecodable == nil || *st.Undecodable != count {
			t.Errorf("after %s: %v, want undecodable %d in\n%s", after, err, count, text)
		}
	}
	told("nothing", "", 0)
	const line = "undecodable events: 1 (kept, answered with success, not applied; see docs/operating.md)\n"
	for _, after := range []string{"a callback", "its resend"} {
		body := []byte(`{"type":"payment.succeeded","data":{"order_id":"A1","payment_id":"P1","amount":"88,00","currency":"EUR"}}`)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.gatewayURL+"/callbacks/sender", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		at := fmt.Sprint(time.Now().Unix())
		mac := hmac.New(sha256.New, key[:])
		fmt.Fprintf(mac, "msg_1.%s.%s", at, body)
		req.Header.Set("Webhook-Id", "msg_1")
		req.Header.Set("Webhook-Timestamp", at)
		req.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		resp, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d, %v", after, resp.StatusCode, err)
		}
		told(after, line, 1)
	}
}

// TestLedgerRingsInTheStatusUntilItIsAcknowledged: what was found lost or twice stands in the
// status until an operator says that it is known.
func TestLedgerRingsInTheStatusUntilItIsAcknowledged(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("everysec")...)
	s := newStack(t, server.Addr(), "unused")
	admin := freeAddress(t)
	s.startAt("gateway", admin)
	b := streamstest.New(t, server.Addr(), func(o *streams.Options) { o.Partitions = 16 })
	run := func(args ...string) (string, error) {
		out, err := s.command(append(args, "--admin", "http://"+admin)...).CombinedOutput()
		return string(out), err
	}
	waitUntil(t, 20*time.Second, "the gateway answers", func() bool {
		_, err := run("status")
		return err == nil
	})
	if err := streams.DeclareGroup(t.Context(), b.Write, b.Layout, "points"); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"lost", "again"} {
		if err := b.Write.HIncrBy(t.Context(), b.Layout.Counts(3, "points"), field, 2).Err(); err != nil {
			t.Fatal(err)
		}
	}
	const line = "  ! 2 lost and 2 found twice: see docs/operating.md, then paybell ledger acknowledge points\n"
	for range 2 {
		if table, err := run("status"); err != nil || !strings.Contains(table, line) {
			t.Fatalf("%v, want %q in\n%s", err, line, table)
		}
	}
	for _, want := range []string{"2 lost and 2 found twice of points are acknowledged\n", "there was nothing to acknowledge of points\n"} {
		if told, err := run("ledger", "acknowledge", "points", "--because", "sent again"); err != nil || told != want {
			t.Fatalf("%v %q, want %q", err, told, want)
		}
	}
	if table, err := run("status"); err != nil || strings.Contains(table, "found twice") {
		t.Fatalf("%v\n%s", err, table)
	}
	if told, err := run("ledger", "acknowledge", "nobody", "--because", "x"); err == nil || !strings.Contains(told, "the ledger has ") {
		t.Fatalf("%v %q", err, told)
	}
}
