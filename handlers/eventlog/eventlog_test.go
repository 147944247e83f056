package eventlog_test

import (
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/handlers/eventlog"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

func TestMain(m *testing.M) { effectstest.Main(m) }

const group = "eventlog"

func handle(t *testing.T, s *effects.Store, ds ...workers.Delivery) {
	t.Helper()
	if err := errors.Join(eventlog.New(s, group).HandleBatch(t.Context(), ds)...); err != nil {
		t.Fatal(err)
	}
}

// TestEvidenceIsKeptWhole writes an event with everything there is, and reads it
// back byte for byte, the bytes that are no text included.
func TestEvidenceIsKeptWhole(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		e := effectstest.Event(1, event.PaymentSucceeded, "A1", "pi_1", effectstest.CNY(8800))
		e.Merchant.CustomerRef = "customer-7"
		d := effectstest.Deliveries(group, e)[0]
		d.Raw, d.Partition, d.EntryID = []byte("body\x00\xff€"), 7, "1700000000000-3"
		d.Evidence = event.Evidence{
			KeyID: "alipay-2025", SignedAt: effectstest.Base,
			Headers: map[string]string{"Content-Type": "application/x-www-form-urlencoded", "X-Signature": "t=1,v1=00"},
		}
		bare := effectstest.Deliveries(group, event.Event{
			Schema: event.Schema, ID: "evt_bare", Type: event.Unmapped, Account: "a", Namespace: "n", Provider: "p",
			ReceivedAt: effectstest.Base, Authenticity: event.Unverified, Completeness: event.NeedsFetch,
			Raw: event.Raw{CallbackID: d.Event.Raw.CallbackID, SHA256: "00", Index: 1},
		})[0]
		bare.Raw, bare.Item = nil, []byte(`{"n":1}`)
		handle(t, s, bare, d)

		reader := eventlog.NewReader(s)
		got, err := reader.Get(t.Context(), e.ID)
		if err != nil || len(got) != 1 {
			t.Fatalf("Get = %d entries, %v", len(got), err)
		}
		if !reflect.DeepEqual(got[0].Record, d.Record) {
			t.Errorf("record = %+v\nwant %+v", got[0].Record, d.Record)
		}
		if got[0].Partition != 7 || got[0].EntryID != d.EntryID || got[0].Facts != e.Facts().String() || time.Since(got[0].AppendedAt) > time.Minute {
			t.Errorf("entry = %+v", got[0])
		}
		whole, err := reader.ByCallback(t.Context(), d.Event.Raw.CallbackID)
		if err != nil || len(whole) != 2 || !reflect.DeepEqual(whole[1].Record, bare.Record) {
			t.Errorf("callback = %+v, %v, want both events in their order", whole, err)
		}
		byOrder, err := reader.ByOrder(t.Context(), "shop", "A1", 10)
		if err != nil || len(byOrder) != 1 || byOrder[0].Event.ID != e.ID {
			t.Errorf("ByOrder = %+v, %v", byOrder, err)
		}
		if _, err := reader.Get(t.Context(), "evt_none"); !errors.Is(err, eventlog.ErrNoEvent) {
			t.Errorf("unknown event: %v, want ErrNoEvent", err)
		}
	})
}

// TestG3ConflictsAreKept: the gateway's conflict event is one row, and facts that
// reached the group under a known ID by another way are another.
func TestG3ConflictsAreKept(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		first := effectstest.Event(1, event.PaymentSucceeded, "A1", "pi_1", effectstest.CNY(8800))
		other := effectstest.Event(1, event.PaymentSucceeded, "A1", "pi_1", effectstest.CNY(1))
		elsewhere := effectstest.Event(1, event.PaymentSucceeded, "B2", "pi_1", effectstest.CNY(8800))
		for range 2 {
			handle(t, s, effectstest.Deliveries(group, first, other.AsConflict(), elsewhere)...)
		}
		reader := eventlog.NewReader(s)
		kept, err := reader.Get(t.Context(), first.ID)
		if err != nil || len(kept) != 2 || kept[0].Event.OrderRef() != "A1" || kept[1].Event.OrderRef() != "B2" {
			t.Errorf("entries = %+v, %v, want both facts", kept, err)
		}
		conflict, err := reader.Get(t.Context(), other.AsConflict().ID)
		if err != nil || len(conflict) != 1 || conflict[0].Event.ConflictOf != first.ID || conflict[0].Event.Type != event.Conflict {
			t.Errorf("conflict = %+v, %v", conflict, err)
		}
	})
}

func TestOptionsValidate(t *testing.T) {
	for name, c := range map[string]struct {
		retention time.Duration
		valid     bool
	}{
		"default":  {eventlog.DefaultOptions().Retention, true},
		"for ever": {0, true},
		"an hour":  {time.Hour, false},
		"negative": {-time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := eventlog.Options{Retention: c.retention}.Validate()
			if (err == nil) != c.valid || err != nil && !strings.HasPrefix(err.Error(), "retention: ") {
				t.Errorf("Validate = %v, want valid: %t", err, c.valid)
			}
		})
	}
}

// TestEveryPartitionThatThereWasFallsToOneThatThereIs: Redis came back from before a change
// of the number of partitions, and what stood in those beyond it has to be found, too.
func TestEveryPartitionThatThereWasFallsToOneThatThereIs(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		at := effectstest.Base.Add(time.Minute)
		for p := range 10 {
			d := effectstest.Deliveries(group, effectstest.Event(p+1, event.PaymentSucceeded, "A", "pi", effectstest.CNY(1)))[0]
			d.Partition, d.EntryID = p, strconv.FormatInt(at.UnixMilli(), 10)+"-"+strconv.Itoa(p)
			handle(t, s, d)
		}
		reader, found := eventlog.NewReader(s), 0
		for p, want := range []int{3, 3, 2, 2} { // 0 4 8, 1 5 9, 2 6, 3 7
			ids, err := reader.AppendedOf(t.Context(), p, 4, at.Add(-time.Second), at.Add(time.Second))
			if err != nil || len(ids) != want {
				t.Errorf("partition %d: %d events, %v; want %d", p, len(ids), err, want)
			}
			found += len(ids)
			if own, err := reader.Appended(t.Context(), p, at.Add(-time.Second), at.Add(time.Second)); err != nil || len(own) != 1 {
				t.Errorf("partition %d alone: %d events, %v", p, len(own), err)
			}
		}
		if found != 10 {
			t.Errorf("%d of 10 events", found)
		}
	})
}
