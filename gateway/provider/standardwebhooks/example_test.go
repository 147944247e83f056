package standardwebhooks_test

import (
	"fmt"
	"os"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/standardwebhooks"
	"github.com/paybell/paybell/streams/event"
)

// The merchant's own shop tells of a shipped order in JSON of its own shape.
func Example() {
	dir, err := os.MkdirTemp("", "standardwebhooks")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is in the temporary directory
	options, err := standardwebhooks.Sandbox(dir)
	if err != nil {
		panic(err)
	}
	options.Mapping = []standardwebhooks.Rule{{
		When:       standardwebhooks.Condition{Pointer: "/event", Equals: "parcel.handed_over"},
		Type:       event.OrderShipped,
		OrderRef:   "/parcel/order",
		OccurredAt: "/at",
	}}
	shop, err := standardwebhooks.New(options, time.Now)
	if err != nil {
		panic(err)
	}
	signer, err := standardwebhooks.NewSigner(options, time.Now)
	if err != nil {
		panic(err)
	}

	callback, err := signer.Sign(provider.Sample{
		EventID: "msg_1",
		Body:    []byte(`{"event":"parcel.handed_over","at":"2026-03-04T05:06:07Z","parcel":{"order":"A1001"}}`),
	})
	if err != nil {
		panic(err)
	}
	verified, err := shop.Verify(callback)
	if err != nil {
		panic(err)
	}
	decoded, err := shop.Decode(callback, verified)
	if err != nil {
		panic(err)
	}
	e := decoded[0].Event
	fmt.Println(decoded[0].Key, e.Type, e.OrderRef(), e.OccurredAt.Format(time.RFC3339))
	// Output:
	// msg_1 order.shipped A1001 2026-03-04T05:06:07Z
}
