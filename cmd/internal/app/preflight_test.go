package app_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
)

var (
	both        = app.Role{Gateway: true, Workers: true}
	gatewayRole = app.Role{Gateway: true}
	workerRole  = app.Role{Workers: true}
)

// problems are what Preflight finds, and what New refuses to start with.
func problems(t *testing.T, role app.Role, set ...string) []string {
	t.Helper()
	cfg, err := configs.Load(configs.Input{Set: append([]string{"data_dir=" + filepath.Join(t.TempDir(), "data")}, set...)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = app.Preflight(t.Context(), cfg, role, time.Now)
	if err == nil {
		return nil
	}
	bad, ok := errors.AsType[*app.ConfigError](err)
	if !ok {
		t.Fatalf("%v is no ConfigError", err)
	}
	_, err = app.New(t.Context(), cfg, role, slog.New(slog.DiscardHandler), "test")
	if started, ok := errors.AsType[*app.ConfigError](err); !ok || started.Error() != bad.Error() {
		t.Errorf("New: %v, Preflight: %v", err, bad)
	}
	return configs.Problems(bad.Err)
}

// TestEverySecretIsReadBeforeAnythingStarts: an operator mends them all at once.
func TestEverySecretIsReadBeforeAnythingStarts(t *testing.T) {
	set := []string{
		"streams.redis={address: 'redis:6379', password: {file: /nowhere/password}, tls: {enabled: true, ca_file: /nowhere/ca, cert_file: /nowhere/cert, key_file: /nowhere/key}}",
		"admin.token.env=PAYBELL_TEST_NO_TOKEN",
		"database.postgres.file=/nowhere/dsn",
		"accounts.a={provider: stripe, options: {secrets: [{file: /nowhere/stripe}]}}",
		"accounts.b={provider: standardwebhooks, options: {secrets: [{env: PAYBELL_TEST_NO_SECRET}]}}",
	}
	want := []string{
		"accounts.a.options: ", "accounts.b.options: ", "admin.token: env:PAYBELL_TEST_NO_TOKEN", "streams.redis.password: ",
		"/nowhere/ca", "/nowhere/cert", "database: effects: postgres: ",
	}
	for _, c := range []struct {
		role app.Role
		want []string
	}{{both, want}, {workerRole, want}, {gatewayRole, want[:len(want)-1]}} {
		found := problems(t, c.role, set...)
		if len(found) != len(c.want) {
			t.Errorf("%+v: %d problems, want %d:\n%s", c.role, len(found), len(c.want), strings.Join(found, "\n"))
		}
		for _, text := range c.want {
			if !strings.Contains(strings.Join(found, "\n"), text) {
				t.Errorf("%+v: no problem tells of %s in:\n%s", c.role, text, strings.Join(found, "\n"))
			}
		}
	}
}

func TestSecretsThatCannotBeUsedAreNotShown(t *testing.T) {
	t.Setenv("PAYBELL_TEST_TOKEN", "do_not_show")
	t.Setenv("PAYBELL_TEST_DSN", "postgres://paybell:do_not_show@db:port/paybell")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte("do_not_show"), 0o600); err != nil {
		t.Fatal(err)
	}
	found := strings.Join(problems(t, workerRole,
		"streams.redis={address: 'redis:6379', tls: {enabled: true, ca_file: "+ca+"}}",
		"admin.token.env=PAYBELL_TEST_TOKEN", "database.postgres.env=PAYBELL_TEST_DSN"), "\n")
	for _, text := range []string{"admin.token: ", "database: ", "streams.redis.tls: "} {
		if !strings.Contains(found, text) {
			t.Errorf("no problem tells of %s in:\n%s", text, found)
		}
	}
	if strings.Contains(found, "do_not_show") {
		t.Errorf("a secret is shown:\n%s", found)
	}
}

// TestWhatCannotStartIsFoundBefore: each is refused without a connection being tried.
func TestWhatCannotStartIsFoundBefore(t *testing.T) {
	t.Setenv("PAYBELL_TEST_STRIPE", "whsec_"+strings.Repeat("x", 32))
	const redis, account = "streams.redis.address=redis:6379", "accounts.a={provider: stripe, options: {secrets: [{env: PAYBELL_TEST_STRIPE}]}}"
	for name, c := range map[string]struct {
		role app.Role
		set  []string
		want string
	}{
		"embedded engine beyond loopback":    {both, []string{account, "embedded.address=0.0.0.0:0"}, "embedded.address: 0.0.0.0:0 is not a loopback address"},
		"embedded engine of a gateway":       {gatewayRole, []string{account}, "streams.redis.address: must be set"},
		"embedded engine of a worker":        {workerRole, []string{account}, "streams.redis.address: must be set"},
		"no accounts":                        {gatewayRole, []string{redis}, "accounts: none is configured"},
		"no database":                        {workerRole, []string{redis}, "database: name where effects are kept"},
		"no database for gateway and worker": {both, []string{redis, account}, "database: name where effects are kept"},
	} {
		if found := problems(t, c.role, c.set...); len(found) != 1 || !strings.HasPrefix(found[0], c.want) {
			t.Errorf("%s: %q, want %s", name, found, c.want)
		}
	}
	for name, c := range map[string]struct {
		role app.Role
		set  []string
	}{
		"the embedded default":         {both, nil},
		"a gateway needs no database":  {gatewayRole, []string{redis, account}},
		"a worker needs no account":    {workerRole, []string{redis, "database.sqlite=x.db"}},
		"nobody listens on the engine": {gatewayRole, []string{redis, account, "embedded.address=0.0.0.0:0"}},
	} {
		cfg, err := configs.Load(configs.Input{Set: c.set})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := app.Preflight(t.Context(), cfg, c.role, time.Now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
