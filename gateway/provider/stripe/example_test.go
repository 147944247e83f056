package stripe_test

import (
	"fmt"
	"os"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/stripe"
	"github.com/paybell/paybell/streams/event"
)

// A sandbox endpoint signs a callback of its own and believes it.
func Example() {
	dir, err := os.MkdirTemp("", "stripe")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is in the temporary directory
	options, err := stripe.Sandbox(dir)
	if err != nil {
		panic(err)
	}
	signer, err := stripe.NewSigner(options, time.Now)
	if err != nil {
		panic(err)
	}
	endpoint, err := stripe.New(options, time.Now)
	if err != nil {
		panic(err)
	}

	amount, err := event.ParseDecimal("88.00", "USD")
	if err != nil {
		panic(err)
	}
	callback, err := signer.Sign(provider.Sample{OrderRef: "A1001", CustomerRef: "C7", Amount: amount})
	if err != nil {
		panic(err)
	}
	verified, err := endpoint.Verify(callback)
	if err != nil {
		panic(err)
	}
	decoded, err := endpoint.Decode(callback, verified)
	if err != nil {
		panic(err)
	}
	e := decoded[0].Event
	fmt.Println(e.Type, e.OrderRef(), e.Payment.Amount)

	callback.Body = append(callback.Body, ' ')
	_, err = endpoint.Verify(callback)
	fmt.Println(err)
	fmt.Println(endpoint.Reply(provider.Refused).Status)
	// Output:
	// payment.succeeded A1001 88.00 USD
	// provider: signature_mismatch: no signature matches any secret
	// 400
}
