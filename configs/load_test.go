package configs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/configs"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "paybell.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNothingConfiguredIsTheEmbeddedDefault(t *testing.T) {
	c, err := configs.Load(configs.Input{})
	if err != nil {
		t.Fatal(err)
	}
	if !c.EmbeddedRedis() || c.Database.SQLite != filepath.Join("paybell-data", "paybell.db") || c.Instance == "" {
		t.Fatalf("embedded %v, sqlite %q, instance %q", c.EmbeddedRedis(), c.Database.SQLite, c.Instance)
	}
}

func TestLaterSourcesWin(t *testing.T) {
	in := configs.Input{
		File:    file(t, "gateway: {address: '127.0.0.1:1', max_body: 2048}\nstreams: {prefix: fromfile}\n"),
		Environ: []string{"PAYBELL_GATEWAY__ADDRESS=127.0.0.1:2", "PAYBELL_STREAMS__PARTITIONS=4", "HOME=/root"},
		Set:     []string{"gateway.address=127.0.0.1:3", "groups.points.enabled=false"},
	}
	c, err := configs.Load(in)
	if err != nil {
		t.Fatal(err)
	}
	if c.Gateway.Address != "127.0.0.1:3" || c.Gateway.MaxBody != 2048 || c.Streams.Prefix != "fromfile" ||
		c.Streams.Partitions != 4 || c.Groups.Points.Enabled {
		t.Fatalf("got %+v", c)
	}
}

func TestAccountDefaults(t *testing.T) {
	c, err := configs.Load(configs.Input{File: file(t, `
accounts:
  stripe-eu:
    provider: stripe
    options: {secrets: [{env: STRIPE_SECRET}]}
  stripe-us:
    provider: stripe
    namespace: shop
    dedup_window: 240h
    options: {secrets: [{env: STRIPE_SECRET_US}], tolerance: 1m}
`)})
	if err != nil {
		t.Fatal(err)
	}
	eu, us := c.Accounts["stripe-eu"], c.Accounts["stripe-us"]
	if eu.Namespace != "stripe-eu" || eu.DedupWindow != 7*24*time.Hour {
		t.Errorf("stripe-eu: namespace %q, window %s", eu.Namespace, eu.DedupWindow)
	}
	if us.Namespace != "shop" || us.DedupWindow != 240*time.Hour {
		t.Errorf("stripe-us: namespace %q, window %s", us.Namespace, us.DedupWindow)
	}
}

func TestDedupWindowCoversTheRedeliverySpan(t *testing.T) {
	for _, c := range []struct{ span, want time.Duration }{
		{25 * time.Hour, 7 * 24 * time.Hour},
		{30 * 24 * time.Hour, 900 * time.Hour},
	} {
		if got := configs.DefaultDedupWindow(c.span); got != c.want {
			t.Errorf("span %s: window %s, want %s", c.span, got, c.want)
		}
	}
}

// TestEveryProblemIsListedWithItsPath: an operator mends a file once, not once a problem.
func TestEveryProblemIsListedWithItsPath(t *testing.T) {
	_, err := configs.Load(configs.Input{File: file(t, `
gatewai: {}
gateway: {adresse: x, max_body: 1MB, read_timeout: 5}
log: {level: loud}
groups: {points: {award: {rules: {CNY: {points: 1, per: 1.10}}}}}
accounts:
  Bad Name: {provider: stripe, options: {secrets: [{env: A}]}}
  nobody: {provider: stripy}
  stripe-eu: {provider: stripe, options: {secret: [], tolerance: 1m}}
`), Environ: []string{"PAYBELL_STREAMS__PARTITION=3"}, Set: []string{"nonsense"}})
	if err == nil {
		t.Fatal("loaded")
	}
	text := strings.Join(configs.Problems(err), "\n")
	for _, want := range []string{
		"gatewai: unknown key", "gateway.adresse: unknown key", "gateway.max_body", "gateway.read_timeout: write a duration",
		"log.level", "groups.points.award.rules[CNY].per: put the number in quotes", "accounts.nobody.provider", "accounts.stripe-eu.options.secret: unknown key",
		"streams.partition: unknown key", `--set "nonsense"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no problem tells of %s in:\n%s", want, text)
		}
	}
}

func TestValidationNamesThePath(t *testing.T) {
	_, err := configs.Load(configs.Input{File: file(t, `
gateway: {max_body: 5}
streams: {partitions: -1}
log: {format: xml}
embedded: {address: nowhere}
instance: "two words"
accounts:
  Bad_Name: {provider: stripe, dedup_window: 5m, options: {secrets: []}}
`)})
	text := strings.Join(configs.Problems(err), "\n")
	for _, want := range []string{
		"gateway.max_body: must", "streams.partitions: must", "log.format", "embedded.address", "instance: \"two words\": must",
		"accounts.Bad_Name.", "accounts.Bad_Name.dedup_window: must", "accounts.Bad_Name.options.secrets",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no problem tells of %s in:\n%s", want, text)
		}
	}
}

// TestTrialsJournalIsAnother: what the embedded engine was given is not drained into a
// Redis server that is configured in the same directory later.
func TestTrialsJournalIsAnother(t *testing.T) {
	trial, err := configs.Load(configs.Input{})
	if err != nil {
		t.Fatal(err)
	}
	real, err := configs.Load(configs.Input{Set: []string{"streams.redis.address=127.0.0.1:6379", "database.sqlite=x.db"}})
	if err != nil {
		t.Fatal(err)
	}
	if trial.Journal.Dir == real.Journal.Dir {
		t.Errorf("both use %s", real.Journal.Dir)
	}
}

// TestDedupWindowOutlastsTheJournal: what comes out of the journal a second time, after a
// kill or an answer that was lost, is still known.
func TestDedupWindowOutlastsTheJournal(t *testing.T) {
	load := func(window string) error {
		_, err := configs.Load(configs.Input{File: file(t, `
streams: {redis: {address: 127.0.0.1:6379}}
database: {sqlite: x.db}
journal: {max_age: 48h}
accounts:
  a: {provider: stripe, dedup_window: `+window+`, options: {secrets: [{env: A}]}}
`)})
		return err
	}
	if err := load("49h"); err != nil {
		t.Error(err)
	}
	if err := load("48h"); err == nil || !strings.Contains(err.Error(), "accounts.a.dedup_window: must be longer than journal.max_age (48h0m0s)") {
		t.Errorf("as long: %v", err)
	}
}

func TestEnvironmentHoldsOperatorsOwnNames(t *testing.T) {
	if _, err := configs.Load(configs.Input{Environ: []string{"PAYBELL_STRIPE_SECRET=x", "PAYBELL_CONFIG=y", "PAYBELL_DATA_DIR=elsewhere", "PAYBELL_MEMORY_LIMIT=268435456"}}); err != nil {
		t.Fatal(err)
	}
}

func TestPrintShowsNoSecret(t *testing.T) {
	t.Setenv("STRIPE_SECRET", "whsec_do_not_show")
	c, err := configs.Load(configs.Input{File: file(t, "accounts: {s: {provider: stripe, options: {secrets: [{env: STRIPE_SECRET}]}}}\n")})
	if err != nil {
		t.Fatal(err)
	}
	b, err := configs.Print(c)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "do_not_show") || !strings.Contains(string(b), "STRIPE_SECRET") {
		t.Fatalf("printed:\n%s", b)
	}
	// What is printed can be loaded again.
	if _, err := configs.Load(configs.Input{File: file(t, string(b))}); err != nil {
		t.Fatalf("load what was printed: %v", err)
	}
}
