package workers_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/paybell/paybell/workers"
	"github.com/paybell/paybell/workers/workertest"
)

// A pool runs one handler on a group until its context ends. A service reads a
// *streams.Group; here the group is in memory.
func ExamplePool() {
	group := workertest.NewGroup("mail", 1, 10*time.Second, time.Now)
	group.Append(workertest.Record("evt-1", "A1001"), workertest.Record("evt-2", "A1002"))

	ctx, stop := context.WithCancel(context.Background())
	handled := 0
	pool := workers.NewPool(slog.New(slog.DiscardHandler), nil, time.Now)
	err := pool.Add(group.Consumer("mail-1"), workers.HandlerFunc(func(_ context.Context, d workers.Delivery) error {
		fmt.Println(d.Event.Type, "of order", d.Event.OrderRef(), "attempt", d.Attempt)
		if handled++; handled == 2 {
			stop()
		}
		return nil
	}), options(func(o *workers.Options) { o.Concurrency = 1 }))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := pool.Run(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println("owed:", group.Owed())
	// Output:
	// payment.succeeded of order A1001 attempt 1
	// payment.succeeded of order A1002 attempt 1
	// owed: 0
}

// What no retry can cure becomes a dead letter at once; anything else is retried.
func ExampleReject() {
	handler := workers.HandlerFunc(func(_ context.Context, d workers.Delivery) error {
		if d.Event.Payment == nil {
			return workers.Reject(fmt.Errorf("event %s carries no payment", d.Event.ID))
		}
		return nil
	})
	rec := workertest.Record("evt-1", "A1001")
	rec.Event.Payment = nil
	err := handler.Handle(context.Background(), workertest.Deliveries("mail", rec)[0])
	fmt.Println(workers.Rejected(err), err)
	// Output: true event evt-1 carries no payment
}
