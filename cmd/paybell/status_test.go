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
