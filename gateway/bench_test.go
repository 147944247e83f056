package gateway_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// trusting is a provider that costs nothing, so that what is measured is the door.
type trusting struct{}

var trusted = &provider.Verified{Evidence: event.Evidence{KeyID: "env:KEY"}}

func (trusting) Verify(*provider.Callback) (*provider.Verified, error) { return trusted, nil }
func (trusting) Decode(*provider.Callback, *provider.Verified) ([]provider.Decoded, error) {
	return []provider.Decoded{{Key: "k1", Event: event.Event{Type: event.PaymentSucceeded, Authenticity: event.Signature, Completeness: event.Full}}}, nil
}
func (trusting) Identity() provider.Identity             { return provider.Identity{} }
func (trusting) Reply(o provider.Outcome) provider.Reply { return bellReplies[o] }

// agreeable is an appender that costs nothing.
type agreeable struct{}

var fresh = []event.Appended{event.New}

func (agreeable) Append(context.Context, time.Duration, []event.Record) ([]event.Appended, error) {
	return fresh, nil
}

// blank is a response that is thrown away, without a recorder's allocations.
type blank struct {
	header http.Header
	status int
}

func (b *blank) Header() http.Header         { return b.header }
func (b *blank) Write(p []byte) (int, error) { return len(p), nil }
func (b *blank) WriteHeader(status int)      { b.status = status }

// rewound is a body that can be sent again.
type rewound struct{ bytes.Reader }

func (*rewound) Close() error { return nil }

// benchBody has the size of an ordinary callback.
var benchBody = []byte(strings.Repeat("x", 1185))

func benchmark(b *testing.B, h http.Handler) {
	b.Helper()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "/callbacks/bench", nil)
		if err != nil {
			b.Error(err)
			return
		}
		r.Header.Set("Content-Type", "application/json")
		r.ContentLength = int64(len(benchBody))
		body := &rewound{}
		r.Body = body
		w := &blank{header: http.Header{}}
		for pb.Next() {
			body.Reset(benchBody)
			clear(w.header)
			h.ServeHTTP(w, r)
		}
	})
}

// BenchmarkDoor is everything the door adds to a provider and an appender.
func BenchmarkDoor(b *testing.B) {
	g, err := gateway.New(gateway.DefaultOptions(),
		[]gateway.Account{{Name: "bench", ProviderName: "bench", Provider: trusting{}, Window: time.Hour}},
		agreeable{}, gateway.Deps{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	benchmark(b, g)
}

// BenchmarkBareGin reads a body and answers, for comparison.
func BenchmarkBareGin(b *testing.B) {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	answer := []byte("rung")
	e.POST("/callbacks/:account", func(c *gin.Context) {
		if _, err := io.ReadAll(c.Request.Body); err != nil {
			b.Error(err)
		}
		c.Data(http.StatusOK, "text/plain", answer)
	})
	benchmark(b, e)
}
