package effects_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/handlers"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/handlers/points"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// TestUnfitDatabaseIsRefused: a text would not be kept as it is, or a commit not at all.
// Neither migrating nor a handler touches such a database, and no event is charged for it.
func TestUnfitDatabaseIsRefused(t *testing.T) {
	server := effectstest.StartPostgres(t)
	t.Cleanup(server.Stop)
	for name, c := range map[string]struct{ clause, parameter, says string }{
		"server_encoding LATIN1":      {"ENCODING 'LATIN1' TEMPLATE template0", "x=", "server_encoding is LATIN1"},
		"server_encoding SQL_ASCII":   {"ENCODING 'SQL_ASCII' TEMPLATE template0", "x=", "server_encoding is SQL_ASCII"},
		"client_encoding":             {"", "client_encoding=LATIN1", "client_encoding is LATIN1"},
		"standard_conforming_strings": {"", "standard_conforming_strings=off", "standard_conforming_strings is off"},
		"DateStyle":                   {"", "DateStyle=German", "DateStyle is German"},
		"array_nulls":                 {"", "array_nulls=off", "array_nulls is off"},
		"bytea_output":                {"", "bytea_output=escape&default_query_exec_mode=exec", "bytea_output is escape"},
		"synchronous_commit":          {"", "synchronous_commit=off", "synchronous_commit is off"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openWith(t, server.Odd(t, c.clause), strings.TrimPrefix(c.parameter, "x="))
			if _, err := s.Migrate(t.Context()); effects.Misconfigured(err) == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("migrate = %v, want a refusal that says %q", err, c.says)
			}
			if err := s.CheckMigrated(t.Context()); effects.Misconfigured(err) == nil {
				t.Errorf("check = %v, want a refusal", err)
			}
			ds := effectstest.Deliveries("g", effectstest.Event(1, event.PaymentSucceeded, "A1", "r1", effectstest.CNY(1)))
			if out := s.Handler("g", applied).HandleBatch(t.Context(), ds); !workers.IsUnavailable(out[0]) || !strings.Contains(out[0].Error(), c.says) {
				t.Errorf("outcome = %v, want an unavailable database that says %q", out[0], c.says)
			}
		})
	}
}

// TestSettingsOfTheDatabaseChangeNothing sets for a database whatever could change what a
// text, a time or a transaction means, and has all handlers work on it in every mode that a
// DSN may choose. What they kept reads the same under a database's own settings.
func TestSettingsOfTheDatabaseChangeNothing(t *testing.T) {
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			o := effectstest.Postgres(t)
			odd := effectstest.Open(t, o, effects.Deps{})
			for setting, value := range map[string]string{
				"client_encoding": "LATIN1", "standard_conforming_strings": "off", "datestyle": "German", "timezone": "Asia/Shanghai",
				"default_transaction_isolation": "serializable", "intervalstyle": "sql_standard",
				"extra_float_digits": "-10",
			} {
				err := odd.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
					_, err := tx.Exec(ctx, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET `+setting+` = %L', current_database(), '`+value+`'); END $$`)
					return err
				})
				if err != nil {
					t.Fatalf("%s: %v", setting, err)
				}
			}
			parameters := "default_query_exec_mode=" + mode
			if mode != "exec" && mode != "simple_protocol" { // those refuse it
				parameters += "&bytea_output=escape"
			}
			s := openWith(t, o, parameters)
			const order = `订单 "A\1" NULL`
			received := time.Date(2026, 7, 1, 3, 4, 5, 678e6, time.UTC)
			for _, group := range handlers.Names() {
				h, err := handlers.Builtin(group, handlers.Deps{Store: s, Points: points.DefaultOptions()})
				if err != nil {
					t.Fatal(err)
				}
				e := effectstest.Event(1, event.PaymentSucceeded, order, "pi_1", effectstest.CNY(8800))
				e.ReceivedAt = received
				ds := effectstest.Deliveries(group, e)
				ds[0].Raw = []byte("\x00\xff\\x41")
				if err := errors.Join(h.HandleBatch(t.Context(), ds)...); err != nil {
					t.Fatalf("%s: %v", group, err)
				}
			}
			var ref string
			var at effects.Time
			var raw []byte
			plain := openWith(t, o, "default_query_exec_mode=cache_statement&datestyle=ISO")
			if err := plain.Query(t.Context(), scanner(&ref), `SELECT order_ref FROM orders`); err != nil || ref != order {
				t.Errorf("order = %q (%v), want %q", ref, err, order)
			}
			if err := s.Query(t.Context(), scanner(&at, &raw), `SELECT received_at, raw FROM event_log`); err != nil || !at.Equal(received) || string(raw) != "\x00\xff\\x41" {
				t.Errorf("received %v, raw %q (%v)", at, raw, err)
			}
		})
	}
}

// TestUTF16FileIsRefused: SQLite keeps the encoding that a file was made with.
func TestUTF16FileIsRefused(t *testing.T) {
	o := effectstest.SQLite(t)
	db, err := sql.Open("sqlite", o.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `PRAGMA encoding = 'UTF-16'; CREATE TABLE theirs (x)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = effects.Open(t.Context(), o, effects.Deps{})
	if !errors.Is(err, effects.ErrUnfit) || !strings.Contains(err.Error(), "UTF-16") || effects.Misconfigured(err) == nil {
		t.Errorf("open = %v, want unfit", err)
	}
}

// authority is the certificate that speakers have, which is for 127.0.0.1 and example.com.
func authority(t *testing.T) []byte {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// speaker stands in for a server that answers a request for TLS by one byte and then shakes
// hands with a certificate of its own.
func speaker(t *testing.T, answer byte) string {
	t.Helper()
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS()
	config := certs.TLS.Clone()
	certs.Close()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // The test has ended.
			}
			wg.Go(func() {
				defer conn.Close()
				request := make([]byte, 8)
				if _, err := io.ReadFull(conn, request); err != nil {
					return // The client sees its connection close.
				}
				if _, err := conn.Write([]byte{answer}); err != nil || answer != 'S' {
					return // As above.
				}
				_ = tls.Server(conn, config).HandshakeContext(t.Context()) // The client is the one to tell.
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close() // It is for this test alone.
		wg.Wait()
	})
	return l.Addr().String()
}

// TestFirstConnectionThatCanNeverBeMade tells a setting that is wrong from a server that
// will be back, with and without a pooler.
func TestFirstConnectionThatCanNeverBeMade(t *testing.T) {
	server := effectstest.StartPostgres(t)
	t.Cleanup(server.Stop)
	pooler := effectstest.StartPgBouncer(t, server)
	direct := pooler.Direct(t)
	if _, err := direct.Exec(t.Context(), `CREATE ROLE cashier LOGIN PASSWORD 'right'`); err != nil {
		t.Fatal(err)
	}
	if err := direct.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Admit(t, "host all paybell 127.0.0.1/32 trust", "host all cashier 127.0.0.1/32 scram-sha-256")
	stranger := effectstest.StartPgBouncer(t, server)
	stranger.As(t, "cashier")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, authority(t), 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := speaker(t, 'N')
	for name, c := range map[string]struct{ dsn, says string }{
		"wrong password":           {strings.Replace(server.DSN("postgres"), "paybell@", "cashier:wrong@", 1), "does not know this user and password"},
		"no such user":             {strings.Replace(server.DSN("postgres"), "paybell@", "guest@", 1), "pg_hba.conf"},
		"no such database":         {server.DSN("elsewhere"), "no database of this name"},
		"unknown parameter":        {server.DSN("postgres") + "&nonsense=1", "start-up parameter"},
		"value of a parameter":     {server.DSN("postgres") + "&timezone=No/Where", "start-up parameter"},
		"server without TLS":       {strings.Replace(server.DSN("postgres"), "disable", "require", 1), "speaks no TLS"},
		"hangs up without TLS":     {"postgres://x@" + nobody + "/x?sslmode=require", "speaks no TLS"},
		"unknown authority":        {"postgres://x@" + speaker(t, 'S') + "/x?sslmode=verify-full", "authority that is not trusted"},
		"certificate of another":   {"postgres://x@" + strings.Replace(speaker(t, 'S'), "127.0.0.1", "localhost", 1) + "/x?sslmode=verify-full&sslrootcert=" + ca, "for another name"},
		"pooler, no such database": {strings.Replace(pooler.DSN(), "/t1", "/elsewhere", 1), "no database of this name"},
		"pooler, parameter":        {pooler.DSN() + "&search_path=paybell", "set it for the role instead"},
		"pooler, its own password": {stranger.DSN(), "does not know this user and password"},
		"away":                     {"postgres://x@127.0.0.1:1/x?sslmode=disable", ""},
		"away, with TLS":           {"postgres://x@127.0.0.1:1/x?sslmode=require", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("EFFECTS_TEST_DSN", c.dsn)
			o := effects.DefaultOptions()
			o.Postgres = secret.Source{Env: "EFFECTS_TEST_DSN"}
			s, err := effects.Open(t.Context(), o, effects.Deps{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			err = s.CheckMigrated(t.Context())
			wrong := effects.Misconfigured(err)
			t.Logf("%v\n  told as %v", err, wrong)
			if c.says == "" {
				if wrong != nil || !errors.Is(err, effects.ErrAway) {
					t.Errorf("%v, told as %v, want a database that is away", err, wrong)
				}
				return
			}
			if wrong == nil || strings.Contains(wrong.Error(), "away") || !strings.Contains(wrong.Error(), c.says) || strings.Contains(wrong.Error(), "wrong@") {
				t.Errorf("%v, told as %v, want a setting: %s", err, wrong, c.says)
			}
		})
	}
}

// TestMigrationsThroughPgBouncerWaitForEachOther: as many processes migrate at once as the
// pooler has sessions, and one that has a session's lock, as older builds take it.
func TestMigrationsThroughPgBouncerWaitForEachOther(t *testing.T) {
	pooler := effectstest.PgBouncer(t)
	older := pooler.Direct(t)
	if _, err := older.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, int64(effects.MigrationsLock)); err != nil {
		t.Fatal(err)
	}
	o := pooler.Options(t)
	o.MaxConnections = 1
	var wg sync.WaitGroup
	results := make(chan int, 4)
	for range 4 {
		wg.Go(func() {
			s, err := effects.Open(t.Context(), o, effects.Deps{})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			applied, err := s.Migrate(t.Context())
			if err != nil {
				t.Errorf("migrate: %v", err)
			}
			results <- len(applied)
		})
	}
	select {
	case n := <-results:
		t.Errorf("%d migrations are applied beside one that has the lock", n)
	case <-time.After(500 * time.Millisecond):
	}
	if err := older.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	close(results)
	done := 0
	for n := range results {
		if n > 0 {
			done++
		}
	}
	if done != 1 {
		t.Errorf("%d processes have applied migrations, want one", done)
	}
}

// TestMigrateSaysInWords what has to be done, where the database or the pooler is in the way.
func TestMigrateSaysInWords(t *testing.T) {
	t.Run("read-only", func(t *testing.T) {
		s := openWith(t, effectstest.Postgres(t), "default_transaction_read_only=on")
		if _, err := s.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "takes no writes") || effects.Misconfigured(err) != nil {
			t.Errorf("migrate = %v", err)
		}
	})
	t.Run("a pooler with one session", func(t *testing.T) {
		pooler := effectstest.PgBouncer(t, "default_pool_size=1", "query_wait_timeout=1")
		if _, err := openPooled(t, pooler).Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "needs two at the same time") {
			t.Errorf("migrate = %v", err)
		}
	})
}
