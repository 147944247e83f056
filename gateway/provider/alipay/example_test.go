package alipay_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/alipay"
	"github.com/paybell/paybell/streams/event"
)

func Example() {
	dir, err := os.MkdirTemp("", "alipay")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays is in a temporary place
	options, err := alipay.Sandbox(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	now := func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }
	p, err := alipay.New(options, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	signer, err := alipay.NewSigner(options, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	amount, err := event.ParseDecimal("88.00", "CNY")
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
	fmt.Printf("%s\n", p.Reply(provider.Accepted).Body)
	// Output:
	// payment.succeeded A1001 88.00 CNY
	// success
}

func BenchmarkVerifyDecode(b *testing.B) {
	p := vector(b, "2019073166072302", "trade_notice.key")
	cb := callback(testdata(b, "trade_notice.form"))
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
