package streams_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// firstCheck connects with the options for the first time, and returns what came of it and
// which setting that is laid to.
func firstCheck(t *testing.T, o streams.Options) (err, wrong error) {
	t.Helper()
	rdb, err := streams.NewWriteClient(o)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	if _, err = streams.Check(t.Context(), rdb); err == nil {
		return nil, nil
	}
	return err, streams.Misconfigured(t.Context(), o, err)
}

// TestWrongSettingIsNamed: what no later connection would be spared is told, with the
// setting that cures it and without a secret.
func TestWrongSettingIsNamed(t *testing.T) {
	dir := t.TempDir()
	ca, caKey := certificate(t, dir, "ca", nil, nil)
	certificate(t, dir, "server", ca, caKey)
	certificate(t, dir, "client", ca, caKey)
	certificate(t, dir, "stranger", nil, nil)
	in := func(name string) string { return filepath.Join(dir, name) }
	good := streams.TLSOptions{Enabled: true, CAFile: in("ca.pem"), CertFile: in("client.pem"), KeyFile: in("client.key")}
	encrypted := streamstest.RedisTLS(t, in("server.pem"), in("server.key"), in("ca.pem"), in("client.pem"), in("client.key")).Addr()
	plain := streamstest.Redis(t).Addr()
	locked := streamstest.Redis(t, "--requirepass", "right").Addr()
	narrow := streamstest.Redis(t, "--user", "narrow", "on", ">right", "~*", "+@all", "-info").Addr()
	password := func(text string) secret.Source {
		return secret.Source{File: write(t, filepath.Join(t.TempDir(), "password"), text)}
	}
	for _, c := range []struct {
		name, address, words string
		change               func(*streams.RedisOptions)
	}{
		{"another name on the certificate", encrypted, "streams.redis.tls.server_name", func(o *streams.RedisOptions) { o.TLS = good; o.TLS.ServerName = "elsewhere.example" }},
		{"an authority that is not trusted", encrypted, "streams.redis.tls.ca_file", func(o *streams.RedisOptions) { o.TLS = good; o.TLS.CAFile = in("stranger.pem") }},
		{"no certificate of ours", encrypted, "streams.redis.tls.cert_file", func(o *streams.RedisOptions) { o.TLS = good; o.TLS.CertFile, o.TLS.KeyFile = "", "" }},
		{"plain text to TLS", encrypted, "set streams.redis.tls.enabled", func(*streams.RedisOptions) {}},
		{"TLS to plain text", plain, "streams.redis.tls.enabled to false", func(o *streams.RedisOptions) { o.TLS = good; o.DialTimeout = time.Second }},
		{"TLS to plain text that asks for a password", locked, "streams.redis.tls.enabled to false", func(o *streams.RedisOptions) { o.TLS = good; o.DialTimeout = time.Second }},
		{"a wrong password", locked, "streams.redis.password", func(o *streams.RedisOptions) { o.Password = password("mistaken") }},
		{"an unknown user", plain, "streams.redis.username", func(o *streams.RedisOptions) { o.Username, o.Password = "nobody", password("mistaken") }},
		{"no password", locked, "set streams.redis.password", func(*streams.RedisOptions) {}},
		{"a user without INFO", narrow, "ACL", func(o *streams.RedisOptions) { o.Username, o.Password = "narrow", password("right") }},
		{"a database that is not there", plain, "streams.redis.db", func(o *streams.RedisOptions) { o.DB = 99 }},
		{"a database of a cluster", streamstest.Redis(t, streamstest.ClusterNode(t)...).Addr(), "cluster-enabled no", func(o *streams.RedisOptions) { o.DB = 1 }},
		{"a database of a Sentinel", streamstest.Sentinel(t).Addr(), "at the master it watches", func(o *streams.RedisOptions) { o.DB = 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := streams.DefaultOptions()
			o.Redis.Address = c.address
			c.change(&o.Redis)
			err, wrong := firstCheck(t, o)
			if !errors.Is(err, streams.ErrUnavailable) {
				t.Fatalf("check = %v: a running process must go on asking", err)
			}
			if wrong == nil || !strings.Contains(wrong.Error(), c.words) || strings.Contains(wrong.Error(), "mistaken") {
				t.Errorf("%v is laid to %v, want words that say %q", err, wrong, c.words)
			}
		})
	}
}

// TestServerThatIsAwayIsNoWrongSetting: waiting may help with all of these.
func TestServerThatIsAwayIsNoWrongSetting(t *testing.T) {
	nobody := streamstest.Redis(t)
	nobody.Kill()
	answering := func(t *testing.T, answer func(net.Conn)) string {
		t.Helper()
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var conns sync.WaitGroup
		conns.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return // closed
				}
				conns.Go(func() {
					defer c.Close()
					answer(c)
				})
			}
		})
		t.Cleanup(func() {
			_ = l.Close() // nothing is owed to it
			conns.Wait()
		})
		return l.Addr().String()
	}
	silent := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) } // until the other end is gone
	hangsUp := func(net.Conn) {}
	loading := func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1<<10)) // as above
		_, _ = c.Write([]byte("-LOADING Redis is loading the dataset in memory\r\n-LOADING Redis is loading the dataset in memory\r\n-LOADING Redis is loading the dataset in memory\r\n-LOADING Redis is loading the dataset in memory\r\n"))
		silent(c)
	}
	for name, address := range map[string]string{
		"nobody listens": nobody.Addr(), "silent": answering(t, silent), "hangs up": answering(t, hangsUp), "loading": answering(t, loading),
	} {
		for _, encrypted := range []bool{false, true} {
			if name == "loading" && encrypted {
				continue // it is a server of plain text
			}
			t.Run(name, func(t *testing.T) {
				o := streams.DefaultOptions()
				o.Redis.Address, o.Redis.TLS.Enabled = address, encrypted
				o.Redis.DialTimeout, o.Redis.ReadTimeout = 300*time.Millisecond, 300*time.Millisecond
				if err, wrong := firstCheck(t, o); err == nil || wrong != nil {
					t.Errorf("TLS %v: %v is laid to %v", encrypted, err, wrong)
				}
			})
		}
	}
}

// TestCertificatesAreReadWithEachConnection: they are renewed while a process runs.
func TestCertificatesAreReadWithEachConnection(t *testing.T) {
	dir := t.TempDir()
	ca, caKey := certificate(t, dir, "ca", nil, nil)
	certificate(t, dir, "server", ca, caKey)
	certificate(t, dir, "client", ca, caKey)
	certificate(t, dir, "stranger", nil, nil)
	in := func(name string) string { return filepath.Join(dir, name) }
	server := streamstest.RedisTLS(t, in("server.pem"), in("server.key"), in("ca.pem"), in("client.pem"), in("client.key"))
	contents := func(name string) string {
		b, err := os.ReadFile(in(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	trusted := write(t, in("trusted.pem"), contents("stranger.pem"))
	o := streams.DefaultOptions()
	o.Redis.Address = server.Addr()
	o.Redis.TLS = streams.TLSOptions{Enabled: true, CAFile: trusted, CertFile: in("client.pem"), KeyFile: in("client.key")}
	rdb, err := streams.NewWriteClient(o)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	if _, err := streams.Check(t.Context(), rdb); err == nil {
		t.Fatal("a stranger's authority is trusted")
	}
	write(t, trusted, contents("ca.pem"))
	if _, err := streams.Check(t.Context(), rdb); err != nil {
		t.Errorf("after the file was renewed: %v", err)
	}
	write(t, trusted, "")
	if _, err := streams.NewWriteClient(o); err == nil {
		t.Error("an empty file is no error at the start")
	}
}

// TestLeaseIsRenewedWhateverReadsDo: every connection that reads and settles is busy, and
// the lease is kept, the membership told and the partition given back all the same.
func TestLeaseIsRenewedWhateverReadsDo(t *testing.T) {
	b := streamstest.New(t, streamstest.Redis(t).Addr(), func(o *streams.Options) { o.Redis.Connections = 2 })
	g := b.Group("points", "w1")
	leases, err := streams.NewLeaseClient(b.Options)
	if err != nil {
		t.Fatal(err)
	}
	defer leases.Close()
	g.LeaseBy(leases)
	l := b.Lease(g, 0)

	var busy sync.WaitGroup
	for range b.Options.Redis.Connections {
		busy.Go(func() { b.Write.BLPop(t.Context(), 0, "nothing") })
	}
	defer busy.Wait()
	defer func() { _ = b.Write.Close() }() // ends what keeps them busy
	streamstest.Eventually(t, "the connections are busy", func() bool {
		clients, err := leases.ClientList(t.Context()).Result()
		return err == nil && strings.Count(clients, "cmd=blpop") == b.Options.Redis.Connections
	})
	short, cancel := context.WithTimeout(t.Context(), b.Options.Redis.ReadTimeout)
	defer cancel()
	if _, err := l.Take(short, 1, 0); err == nil {
		t.Fatal("a read found a connection, so nothing is shown")
	}
	if err := l.Renew(t.Context()); err != nil {
		t.Errorf("renew: %v", err)
	}
	if _, err := g.Heartbeat(t.Context()); err != nil {
		t.Errorf("heartbeat: %v", err)
	}
	if _, ok, err := g.Acquire(t.Context(), 1); err != nil || !ok {
		t.Errorf("acquire: %v, %v", ok, err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Errorf("release: %v", err)
	}
	if err := g.Leave(t.Context()); err != nil {
		t.Errorf("leave: %v", err)
	}
}
