package send_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paybell/paybell/loadtest/bench/send"
)

func port(t *testing.T, h http.HandlerFunc) int {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	addr, ok := srv.Listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no TCP")
	}
	return addr.Port
}

func list(n int) *send.List {
	l := &send.List{}
	for i := range n {
		l.Post("/", "X-Number: "+fmt.Sprint(i)+"\r\n", fmt.Appendf(nil, "body %d", i))
	}
	return l
}

func TestClosedLoopEndsWithTheList(t *testing.T) {
	var got atomic.Int64
	p := port(t, func(http.ResponseWriter, *http.Request) { got.Add(1) })
	res, err := send.Run(t.Context(), send.Plan{Port: p, Conns: 4, List: list(100), First: 10, For: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if res.Accepted != 90 || got.Load() != 90 || res.Next != 100 || len(res.Replied) != 90 || len(res.Waits) != 90 {
		t.Errorf("accepted %d of %d, next %d, %d times, %d waits", res.Accepted, got.Load(), res.Next, len(res.Replied), len(res.Waits))
	}
}

func TestRefusalsAreNoSuccess(t *testing.T) {
	p := port(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	res, err := send.Run(t.Context(), send.Plan{Port: p, Conns: 1, List: list(3), For: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if res.Accepted != 0 || res.Refused != 3 || res.LastStatus != http.StatusUnauthorized || res.Replied[0] != 0 {
		t.Errorf("%+v", res)
	}
}

// What a connection took with it, or was refused, is sent again until it is accepted.
func TestAgain(t *testing.T) {
	var n atomic.Int64
	p := port(t, func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) % 3 {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	res, err := send.Run(t.Context(), send.Plan{Port: p, Conns: 3, List: list(30), For: time.Minute, Again: true})
	if err != nil {
		t.Fatal(err)
	}
	if res.Accepted != 30 || res.Refused == 0 {
		t.Errorf("%+v", res)
	}
	for i, at := range res.Replied {
		if at == 0 {
			t.Errorf("request %d was not accepted", i)
		}
	}
}

// A server that stands still is charged for all that were due meanwhile.
func TestWaitsCountFromWhenDue(t *testing.T) {
	const stands = 200 * time.Millisecond
	var first atomic.Bool
	p := port(t, func(http.ResponseWriter, *http.Request) {
		if first.CompareAndSwap(false, true) {
			timer := time.NewTimer(stands)
			<-timer.C
		}
	})
	res, err := send.Run(t.Context(), send.Plan{Port: p, Conns: 1, List: list(50), For: 500 * time.Millisecond, Rate: 100})
	if err != nil {
		t.Fatal(err)
	}
	late := 0
	for _, w := range res.Waits {
		if w > 50_000 {
			late++
		}
	}
	if res.Accepted != 50 || late < 10 {
		t.Errorf("accepted %d, %d late, want 50 and some 15", res.Accepted, late)
	}
	if res.Took < 480*time.Millisecond {
		t.Errorf("50 at 100/s took %s", res.Took)
	}
}

func TestAltered(t *testing.T) {
	l := list(12)
	altered, err := l.Altered(11)
	if err != nil {
		t.Fatal(err)
	}
	if string(altered.Body(0)) != "body 10" || string(l.Body(11)) != "body 11" {
		t.Errorf("altered %q, was %q", altered.Body(0), l.Body(11))
	}
}
