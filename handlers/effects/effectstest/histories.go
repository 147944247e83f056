package effectstest

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// Histories draws what providers tell of a few orders of one namespace: payments,
// failures, closures, refunds and disputes, some without an order reference, some
// that may not move money. Event IDs begin with the namespace.
func Histories(namespace string) *rapid.Generator[[]event.Event] {
	return rapid.Custom(func(t *rapid.T) []event.Event {
		n := rapid.IntRange(1, 14).Draw(t, "events")
		out := make([]event.Event, n)
		for i := range out {
			out[i] = history(t, namespace, i)
		}
		return out
	})
}

var historyTypes = []event.Type{
	event.PaymentPending, event.PaymentAuthorized, event.PaymentSucceeded, event.PaymentSucceeded, event.PaymentFailed,
	event.PaymentClosed, event.RefundSucceeded, event.RefundSucceeded, event.RefundFailed, event.DisputeOpened,
	event.DisputeWon, event.DisputeLost, event.PayoutUpdated,
}

func history(t *rapid.T, namespace string, i int) event.Event {
	orderRef := rapid.SampledFrom([]string{"A", "B", "A", "", ""}).Draw(t, "order")
	ref := rapid.SampledFrom([]string{"p1", "p2", "p3"}).Draw(t, "ref")
	amount := CNY(100 * rapid.Int64Range(1, 3).Draw(t, "amount"))
	e := Event(i, rapid.SampledFrom(historyTypes).Draw(t, "type"), orderRef, ref, amount)
	e.ID = fmt.Sprintf("evt_%s_%d", namespace, i)
	e.Namespace = namespace
	e.Account = rapid.SampledFrom([]string{"alipay-main", "alipay-main", "stripe-eu"}).Draw(t, "account")
	e.OccurredAt = Base.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "at")) * time.Second)
	e.Merchant.CustomerRef = rapid.SampledFrom([]string{"", "", "c1", "c2"}).Draw(t, "customer")
	e.Payment.ParentRef = rapid.SampledFrom([]string{"", "", "p1"}).Draw(t, "parent")
	if rapid.IntRange(0, 4).Draw(t, "related") == 0 {
		e.Payment.RelatedRefs = []string{rapid.SampledFrom([]string{"p2", "p3", "p4"}).Draw(t, "related ref")}
	}
	if rapid.IntRange(0, 9).Draw(t, "fetch") == 0 {
		e.Completeness = event.NeedsFetch
	}
	part := rapid.SampledFrom([]string{"", "x1", "x2"}).Draw(t, "part")
	switch e.Type {
	case event.RefundSucceeded, event.RefundFailed:
		e.Refund = &event.Refund{ProviderRef: part, Amount: &amount}
	case event.DisputeOpened, event.DisputeWon, event.DisputeLost:
		e.Dispute = &event.Dispute{ProviderRef: part, Amount: &amount}
	}
	return e
}

// Shuffled delivers the events to a handler in a drawn order, some of them twice,
// in drawn batches, from several partitions at once, until all are settled.
func Shuffled(t *rapid.T, tb testing.TB, h workers.BatchHandler, group string, events []event.Event) {
	const partitions = 3
	drawn := rapid.Permutation(events).Draw(t, "permutation")
	drawn = append(drawn, rapid.SliceOfN(rapid.SampledFrom(events), 0, 3).Draw(t, "again")...)
	size := rapid.IntRange(1, 5).Draw(t, "batch")
	var queues [partitions][]workers.Delivery
	for _, d := range Deliveries(group, drawn...) {
		sum := fnv.New32()
		_, _ = sum.Write([]byte(d.Event.OrderingKey())) // A hash cannot fail.
		d.Partition = int(sum.Sum32() % partitions)
		queues[d.Partition] = append(queues[d.Partition], d)
	}
	var wg sync.WaitGroup
	for _, queue := range queues {
		wg.Go(func() {
			for ; len(queue) > 0; queue = queue[min(size, len(queue)):] {
				if err := settleAll(context.WithoutCancel(tb.Context()), h, queue[:min(size, len(queue))]); err != nil {
					tb.Errorf("settle: %v", err)
				}
			}
		})
	}
	wg.Wait()
}
