package streamstest

import (
	"errors"
	"slices"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

var refuseCases = []contract{
	{"G1RefusedEntryLeavesNoMark", refusedEntryLeavesNoMark},
}

// A mark without its entry would make the resend a duplicate of nothing.
func refusedEntryLeavesNoMark(t promise) {
	b := New(t, t.addr, func(o *streams.Options) { o.Partitions = 1 })
	ctx := t.Context()
	// Entries cannot be added to what is no stream, while marks could be set.
	if err := b.Write.Set(ctx, b.Layout.Events(0), "in the way", 0).Err(); err != nil {
		t.Fatal(err)
	}
	records := Records("A1", 3)
	if _, err := b.Writer.Append(ctx, time.Hour, records); !errors.Is(err, streams.ErrUnavailable) {
		t.Fatalf("err = %v", err)
	}
	if err := b.Write.Del(ctx, b.Layout.Events(0)).Err(); err != nil {
		t.Fatal(err)
	}
	if got := b.Append(records...); slices.ContainsFunc(got, func(a event.Appended) bool { return a != event.New }) {
		t.Fatalf("once entries can be added: %v", got)
	}
	if n := len(b.Entries()); n != len(records) {
		t.Fatalf("%d entries", n)
	}
}
