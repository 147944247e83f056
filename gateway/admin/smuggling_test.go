package admin_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/admin"
)

// TestNoRequestHiddenInAnother: behind a proxy, a second request in what the proxy takes
// for a body would come with the proxy's own rights.
func TestNoRequestHiddenInAnother(t *testing.T) {
	o := admin.Options{Address: "127.0.0.1:0"}
	a := newAdmin(t, o, nil)
	l, err := admin.Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, l) }()

	hidden := "GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
	chunk, ended := fmt.Sprintf("%x\r\n", len(hidden)), "0\r\n\r\n"
	for name, request := range map[string]string{
		"chunked":   fmt.Sprintf(" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n%s", len(ended+hidden), ended+hidden),
		"HTTP/1.0":  fmt.Sprintf(" HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n%s", len(chunk), chunk+hidden+"\r\n"+ended),
		"two codes": fmt.Sprintf(" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n%s", len(ended+hidden), ended+hidden),
	} {
		for _, target := range []string{"GET /healthz", "GET /api/v1/status", "POST /", "GET /nowhere", "OPTIONS *"} {
			t.Run(name+"/"+target, func(t *testing.T) {
				var d net.Dialer
				conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, target+request); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(conn)
				if err != nil {
					t.Fatalf("the connection stays open: %v after %q", err, got)
				}
				if n := strings.Count(string(got), "HTTP/1."); n != 1 {
					t.Errorf("%d replies: %q", n, got)
				}
			})
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
