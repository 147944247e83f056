package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway"
)

// FuzzDoor throws requests at the whole door. Whatever comes, it answers; a
// success is authentic and kept whole; nothing else is kept; and when the append
// fails, an authentic callback is asked to come again.
func FuzzDoor(f *testing.F) {
	f.Add("POST", "/callbacks/bell", "", "", []byte("k1 payment.succeeded A1 whole\nk2 refund.succeeded A1\n"), true, false, uint8(0))
	f.Add("POST", "/callbacks/bell", "identity", "x=1&x=2", []byte("short"), true, true, uint8(1))
	f.Add("POST", "/callbacks/bell-nokey", "gzip", "", []byte("k1 - A1"), true, false, uint8(2))
	f.Add("PUT", "/callbacks/bell/", "", "%zz", []byte("panic in verify"), true, true, uint8(3))
	f.Add("POST", "/callbacks/bell", "", "", []byte("panic a b\nidentity"), true, false, uint8(0))
	f.Add("POST", "/callbacks/bell", "", "", []byte("k1 payment.succeeded A1 torn"), true, false, uint8(0))
	f.Add("POST", "/callbacks/bell", "", "", []byte("unsigned form"), false, false, uint8(0))
	f.Add("GET", "/readyz", "", "", []byte{}, false, false, uint8(0))
	f.Fuzz(func(t *testing.T, method, path, encoding, query string, body []byte, signed, chunked bool, failure uint8) {
		d := newDoor(t, func(o *gateway.Options, _ *gateway.Deps) {
			o.MaxBody = 1 << 10
			o.AppendTimeout = 10 * time.Millisecond
		})
		fails := failure%4 != 0
		d.appender.before = map[uint8]func(context.Context) error{
			1: func(context.Context) error { return errors.New("OOM") },
			2: func(context.Context) error { panic("append") },
			3: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		}[failure%4]
		r := &http.Request{
			Method: method, URL: &url.URL{Path: path, RawQuery: query}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		}
		if chunked {
			r.ContentLength = -1
		}
		if encoding != "" {
			r.Header.Set("Content-Encoding", encoding)
		}
		r.Header.Set(signatureHeader, sign(body, noon))
		if !signed {
			r.Header.Set(signatureHeader, sign(append([]byte("another "), body...), noon))
		}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r.WithContext(t.Context()))

		kept := d.appender.kept()
		success := w.Code/100 == 2 && strings.HasPrefix(path, "/callbacks/")
		switch {
		case w.Code < 200 || w.Code > 599:
			t.Fatalf("status %d", w.Code)
		case success && (!signed || fails || method != http.MethodPost || len(body) > 1<<10 || w.Body.String() != "rung"):
			t.Fatalf("accepted: %d %q", w.Code, w.Body)
		case success && len(kept) == 0:
			t.Fatal("accepted and not kept")
		case !success && len(kept) != 0:
			t.Fatalf("kept %d entries and replied %d", len(kept), w.Code)
		case success && !bytes.Equal(kept[0].Raw, body):
			t.Fatalf("kept %q of %q", kept[0].Raw, body)
		case w.Code == 503 && path == "/callbacks/bell" && w.Header().Get("Retry-After") == "":
			t.Fatal("asked to come again without being told when")
		}
		for _, record := range kept {
			if record.Event.Account != "bell" || record.Event.ID == "" {
				t.Fatalf("kept %+v", record.Event)
			}
		}
	})
}
