package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway"
)

func TestOptions(t *testing.T) {
	if err := gateway.DefaultOptions().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	all := gateway.Options{Address: "8080", BodyMemory: 1, HeaderTimeout: time.Hour}.Validate()
	if all == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"address: must be host:port", "max_body: must be between 1024 and 16777216", "body_memory: ", "max_header: ",
		"max_connections: ", "max_in_flight: ", "header_timeout: must be between 100ms and 1m0s", "read_timeout: ",
		"append_timeout: ", "idle_timeout: ", "retry_after: ", "header_timeout: must not be longer than read_timeout",
	} {
		found := false
		for line := range strings.Lines(all.Error()) {
			found = found || strings.HasPrefix(line, want)
		}
		if !found {
			t.Errorf("no problem begins with %q:\n%v", want, all)
		}
	}
	o := gateway.DefaultOptions()
	o.MaxBody, o.BodyMemory = 4<<20, 2<<20
	if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), "body_memory: must be between 4194304 ") {
		t.Errorf("a budget smaller than one body: %v", err)
	}
}
