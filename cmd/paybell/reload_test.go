package main_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams/streamstest"
)

// answer is the status of the reply to a callback signed with a secret, 0 without one.
func (s *stack) answer(ctx context.Context, secret string, n int) int {
	body := fmt.Appendf(nil, `{"id":"evt_%06d","object":"event","type":"customer.created","created":1700000000,"livemode":false,"data":{"object":{"id":"cus_1","object":"customer"}}}`, n)
	at := fmt.Sprint(time.Now().Unix())
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.gatewayURL+"/callbacks/stripe-main", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Stripe-Signature", "t="+at+",v1="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := s.client.Do(req)
	if err != nil {
		return 0
	}
	if err := resp.Body.Close(); err != nil {
		s.t.Error(err)
	}
	return resp.StatusCode
}

// TestHangupReadsSecretsAgain: a secret is replaced while the gateway runs, and one that
// cannot be read leaves the one before in force.
func TestHangupReadsSecretsAgain(t *testing.T) {
	const first, second = "whsec_first_0123456789", "whsec_second_0123456789"
	dir := t.TempDir()
	secret, log := filepath.Join(dir, "secret"), filepath.Join(dir, "log")
	write := func(text string) {
		if err := os.WriteFile(secret, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first)
	output, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	s := &serving{stack: newStack(t, streamstest.Redis(t, streamstest.AOF("everysec")...).Addr(), "unused"), admin: freeAddress(t)}
	cmd := s.command("gateway", "--set", "admin.address="+s.admin, "--set", "log.level=info", "--set", "gateway.drain_delay=0s",
		"--set", fmt.Sprintf("accounts.stripe-main.options={secrets: [{file: %q}]}", secret))
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.p = &process{t, cmd}
	t.Cleanup(s.p.kill)
	s.ready(t)
	answers := func(secret string, want int) {
		t.Helper()
		waitUntil(t, 20*time.Second, fmt.Sprintf("callbacks signed with %.9s are answered by %d", secret[6:], want), func() bool {
			s.next++
			return s.answer(t.Context(), secret, s.next) == want
		})
	}
	answers(first, http.StatusOK)
	answers(second, http.StatusBadRequest)

	write(second)
	s.signal(t, syscall.SIGHUP)
	answers(second, http.StatusOK)
	answers(first, http.StatusBadRequest)

	write("")
	s.signal(t, syscall.SIGHUP)
	waitUntil(t, 20*time.Second, "it is said", func() bool { return strings.Contains(readFile(t, log), "keys and secrets stay as they were") })
	answers(second, http.StatusOK)
	s.ends(t)
	if text := readFile(t, log); strings.Contains(text, first) || strings.Contains(text, second) {
		t.Error("the log holds a secret")
	}
}

// TestAccountInAnotherNamespaceIsRefused, until somebody says that it is meant: its
// refunds would be of orders that nobody has. A Redis that was emptied does not forget it,
// as long as the database knows.
func TestAccountInAnotherNamespaceIsRefused(t *testing.T) {
	server := streamstest.Redis(t, streamstest.AOF("everysec")...)
	s := newStack(t, server.Addr(), effectstest.Postgres(t).Postgres.File)
	s.run("migrate")
	gateway := s.start("gateway", s.gatewayURL)
	if !s.post(t.Context(), 1) {
		t.Fatal("not accepted")
	}
	gateway.kill()
	const elsewhere = "accounts.stripe-main.namespace=elsewhere"
	known := func(want string) {
		t.Helper()
		waitUntil(t, 20*time.Second, "the database knows "+want, func() bool {
			out, err := s.command("accounts", "show").CombinedOutput()
			return err == nil && strings.Contains(string(out), want)
		})
	}
	for _, role := range []string{"gateway", "worker", "serve"} {
		s.refused("accounts.stripe-main: the account has changed", role, "--set", elsewhere)
	}
	s.startAt("worker", freeAddress(t)).kill()
	known("stripe-main  stripe    stripe-main  the same")

	s.run("accounts", "move", "stripe-main", "--yes", "--set", elsewhere)
	s.refused("namespace elsewhere", "gateway")
	worker := s.startAt("worker", freeAddress(t), "--set", elsewhere)
	known("stripe-main  stripe    elsewhere  stripe stripe-main")
	worker.kill()

	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	if err := rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.refused("the database knows it", "worker")
	s.startAt("worker", freeAddress(t), "--set", elsewhere)
	waitUntil(t, 20*time.Second, "the worker has told redis", func() bool { return rdb.Exists(t.Context(), "paybell:accounts").Val() == 1 })
	s.refused("redis knows it", "gateway")
}
