package gateway_test

import (
	"encoding/hex"
	"reflect"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/streams/streamstest"
)

// TestPayloadBringsBackTheRecord: the same record, so the same ID, facts and key.
func TestPayloadBringsBackTheRecord(t *testing.T) {
	records := streamstest.Records("many", 3)
	for i := range records {
		b, err := gateway.EncodePayload(week, &records[i])
		if err != nil {
			t.Fatal(err)
		}
		window, r, err := gateway.DecodePayload(b)
		if err != nil || window != week || !reflect.DeepEqual(r, records[i]) {
			t.Fatalf("%d: %v, %v\n%+v\n%+v", i, window, err, r, records[i])
		}
		if key, ok := gateway.PayloadKey(b); !ok || key != r.Event.OrderingKey() {
			t.Fatalf("key %q, %v", key, ok)
		}
		for cut := range b {
			if _, _, err := gateway.DecodePayload(b[:cut]); err == nil {
				t.Fatalf("cut at %d it still reads", cut)
			}
		}
		b[0]++
		if _, _, err := gateway.DecodePayload(b); err == nil {
			t.Fatal("a later version is guessed at")
		}
	}
}

// TestPayloadFormIsFrozen: a journal is read by a later binary than wrote it.
func TestPayloadFormIsFrozen(t *testing.T) {
	r := streamstest.Record("A1", 0)
	fields, err := r.Fields()
	if err != nil {
		t.Fatal(err)
	}
	b, err := gateway.EncodePayload(time.Hour, &r)
	if err != nil {
		t.Fatal(err)
	}
	// Version 1, 3,600,000 ms, 20 texts, the first "schema".
	const head = "01" + "80dddb01" + "14" + "06" + "736368656d61"
	if got := hex.EncodeToString(b[:len(head)/2]); got != head || len(fields) != 20 {
		t.Fatalf("begins %s with %d texts, want %s", got, len(fields), head)
	}
}

func FuzzDecodePayload(f *testing.F) {
	r := streamstest.Record("A1", 0)
	b, err := gateway.EncodePayload(week, &r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		window, r, err := gateway.DecodePayload(b)
		if err != nil {
			return
		}
		again, err := gateway.EncodePayload(window, &r)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		_, back, err := gateway.DecodePayload(again)
		if err != nil || event.Facts(back.Event.Facts()) != r.Event.Facts() || back.Event.ID != r.Event.ID {
			t.Fatalf("read %v, then %v (%v)", r.Event.ID, back.Event.ID, err)
		}
	})
}
