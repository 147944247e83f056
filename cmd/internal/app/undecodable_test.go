package app_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/streamstest"
)

// TestUndecodableCallbackIsCounted: an authentic callback with an amount that cannot be
// read gets its success reply, and every process tells of it, and not again of its resend
// or of the same callback with an amount that can be read.
func TestUndecodableCallbackIsCounted(t *testing.T) {
	for name, processes := range map[string]func(t *testing.T) (door, other *running){
		"embedded": func(t *testing.T) (door, other *running) {
			// A group that never reads keeps the entries from being trimmed.
			r := start(t, "streams.declared_groups=[billing]")
			return r, r
		},
		"two gateways on redis": func(t *testing.T) (*running, *running) {
			server := streamstest.Redis(t, streamstest.AOF("everysec")...)
			return door(t, server.Addr(), gateway.JournalFallback), door(t, server.Addr(), gateway.JournalFallback)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, other := processes(t)
			const account = "standardwebhooks-sandbox"
			post := func(id, amount string) {
				t.Helper()
				body := fmt.Appendf(nil, `{"type":"payment.succeeded","data":{"order_id":"A1","payment_id":"P1","amount":%q,"currency":"EUR"}}`, amount)
				if code, reply := r.send(account, provider.Sample{EventID: id, At: time.Now(), Body: body}); code != http.StatusOK {
					t.Fatalf("reply %d %q", code, reply)
				}
			}
			counted := func(after string, want, entries int64) {
				t.Helper()
				s := other.status()
				if s.Undecodable == nil {
					t.Fatalf("after %s: the status does not tell", after)
				}
				if *s.Undecodable != want || s.Streams.Entries != entries {
					t.Fatalf("after %s: undecodable %d, want %d; %d entries, want %d", after, *s.Undecodable, want, s.Streams.Entries, entries)
				}
			}
			counted("nothing", 0, 0)
			post("msg_1", "88,00")
			counted("an amount that cannot be read", 1, 1)
			post("msg_1", "88,00")
			counted("its resend", 1, 1)
			post("msg_1", "88.00")
			counted("an amount that can be read", 1, 2)
		})
	}
}
