package wechatpay_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/wechatpay"
	"github.com/paybell/paybell/streams/event"
)

func Example() {
	dir, err := os.MkdirTemp("", "wechatpay")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays is in a temporary place
	options, err := wechatpay.Sandbox(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	now := func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }
	p, err := wechatpay.New(options, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	signer, err := wechatpay.NewSigner(options, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	amount, err := event.FromMinor(8800, "CNY")
	if err != nil {
		fmt.Println(err)
		return
	}
	callback, err := signer.Sign(provider.Sample{OrderRef: "A1001", Amount: amount})
	if err != nil {
		fmt.Println(err)
		return
	}
	proof, err := p.Verify(callback)
	if err != nil {
		fmt.Println(err)
		return
	}
	events, err := p.Decode(callback, proof)
	if err != nil {
		fmt.Println(err)
		return
	}
	e := events[0].Event
	fmt.Println(e.Type, e.OrderRef(), e.Payment.Amount)
	fmt.Println(p.Reply(provider.Accepted).Status)
	// Output:
	// payment.succeeded A1001 88.00 CNY
	// 204
}

func BenchmarkVerifyDecode(b *testing.B) {
	p, s := account(b, options(b))
	amount := event.Money{Value: "88.00", Minor: 8800, Exponent: 2, Currency: "CNY"}
	cb, err := s.Sign(provider.Sample{OrderRef: "A1001", CustomerRef: "cust-7", Amount: amount})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(cb.Body)))
	for b.Loop() {
		v, err := p.Verify(cb)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Decode(cb, v); err != nil {
			b.Fatal(err)
		}
	}
}
