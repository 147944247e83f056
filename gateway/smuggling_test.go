package gateway_test

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
)

// TestNoRequestHiddenInAnother: a proxy in front may take the hidden callback for a part
// of the body, by whichever of the two headers it does not go.
func TestNoRequestHiddenInAnother(t *testing.T) {
	d, addr := onTheWire(t, nil)
	hidden := post(paid, len(paid)) // Signed: were it read, it would be kept.
	size := fmt.Sprintf("%x\r\n", len(hidden))
	bodies := map[string]struct {
		text   string
		length int
	}{
		"after the last chunk":     {"0\r\n\r\n" + hidden, len("0\r\n\r\n" + hidden)},
		"after the content length": {size + hidden + "\r\n0\r\n\r\n", len(size)},
	}
	const one, zero = "HTTP/1.1", "HTTP/1.0"
	forms := map[string]struct {
		version string
		headers string // %d is the content length
	}{
		"length, then chunked":       {one, "Content-Length: %d\r\nTransfer-Encoding: chunked\r\n"},
		"chunked, then length":       {one, "Transfer-Encoding: chunked\r\nContent-Length: %d\r\n"},
		"capital C":                  {one, "Content-Length: %d\r\nTransfer-Encoding: Chunked\r\n"},
		"header in lower case":       {one, "content-length: %d\r\ntransfer-encoding: chunked\r\n"},
		"space before the colon":     {one, "Content-Length: %d\r\nTransfer-Encoding : chunked\r\n"},
		"tab before the value":       {one, "Content-Length: %d\r\nTransfer-Encoding:\tchunked\r\n"},
		"tab behind the value":       {one, "Content-Length: %d\r\nTransfer-Encoding: chunked\t\r\n"},
		"folded value":               {one, "Content-Length: %d\r\nTransfer-Encoding:\r\n chunked\r\n"},
		"two codings in two lines":   {one, "Content-Length: %d\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"},
		"chunked in two lines":       {one, "Content-Length: %d\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"},
		"identity":                   {one, "Content-Length: %d\r\nTransfer-Encoding: identity\r\n"},
		"chunked, identity":          {one, "Content-Length: %d\r\nTransfer-Encoding: chunked, identity\r\n"},
		"identity, chunked":          {one, "Content-Length: %d\r\nTransfer-Encoding: identity, chunked\r\n"},
		"quoted":                     {one, "Content-Length: %d\r\nTransfer-Encoding: \"chunked\"\r\n"},
		"no value":                   {one, "Content-Length: %d\r\nTransfer-Encoding:\r\n"},
		"two lengths":                {one, "Content-Length: %d\r\nContent-Length: 3\r\n"},
		"two lengths and chunked":    {one, "Content-Length: %d\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n"},
		"lengths in one line":        {one, "Content-Length: %d, 3\r\n"},
		"length with a sign":         {one, "Content-Length: +%d\r\n"},
		"HTTP/1.0":                   {zero, "Content-Length: %d\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n"},
		"HTTP/1.0, chunked first":    {zero, "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n"},
		"HTTP/1.0, two codings":      {zero, "Content-Length: %d\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n"},
		"HTTP/1.0 with a length":     {zero, "Content-Length: %d\r\nConnection: keep-alive\r\n"},
		"HTTP/1.0 without anything":  {zero, "Connection: keep-alive\r\nX-Length: %d\r\n"},
		"asking to keep it all open": {one, "Content-Length: %d\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n"},
		"expecting a 100":            {one, "Content-Length: %d\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n"},
	}
	targets := []string{
		"POST /callbacks/bell", "POST /callbacks/nobody", "PUT /callbacks/bell", "POST /elsewhere",
		"GET /healthz", "HEAD /healthz", "GET /readyz", "OPTIONS *",
	}
	for name, form := range forms {
		for where, body := range bodies {
			for _, target := range targets {
				t.Run(name+"/"+where+"/"+target, func(t *testing.T) {
					before := d.count(t)
					conn := dial(t, addr)
					send(t, conn, target+" "+form.version+"\r\nHost: bell\r\n"+fmt.Sprintf(form.headers, body.length)+"\r\n"+body.text)
					got := strings.ReplaceAll(closed(t, conn), "HTTP/1.1 100 Continue\r\n\r\n", "")
					if n := strings.Count(got, "HTTP/1."); n != 1 {
						t.Errorf("%d replies: %q", n, got)
					}
					if n := d.count(t) - before; n > 1 {
						t.Errorf("%v requests were counted", n)
					}
					if n := len(d.appender.kept()); n != 0 {
						t.Fatalf("the hidden callback was kept: %d entries", n)
					}
				})
			}
		}
	}
}

// TestChunkedIsTaken: a provider may send chunks; each of its callbacks has a connection
// of its own then.
func TestChunkedIsTaken(t *testing.T) {
	d, addr := onTheWire(t, nil)
	for n := range 2 {
		conn := dial(t, addr)
		send(t, conn, fmt.Sprintf("POST /callbacks/bell HTTP/1.1\r\nHost: bell\r\n%s: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
			signatureHeader, sign([]byte(paid), noon), len(paid), paid))
		r := bufio.NewReader(conn)
		if resp, body := read(t, r); resp.StatusCode != 200 || body != "rung" || !resp.Close {
			t.Errorf("callback %d: got %d %q, close %v", n, resp.StatusCode, body, resp.Close)
		}
		if rest := closed(t, r); rest != "" {
			t.Errorf("callback %d: after the reply: %q", n, rest)
		}
	}
	if n := len(d.appender.kept()); n != 1 {
		t.Errorf("%d entries", n)
	}
}
