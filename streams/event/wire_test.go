package event_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paybell/paybell/streams/event"
)

func fields(t testing.TB, r event.Record) []any {
	t.Helper()
	pairs, err := r.Fields()
	if err != nil {
		t.Fatal(err)
	}
	return pairs
}

func asMap(pairs []any) map[string]string {
	m := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1].(string)
	}
	return m
}

func TestFieldsAreGolden(t *testing.T) {
	for _, tc := range records(t) {
		t.Run(tc.name, func(t *testing.T) {
			var b strings.Builder
			pairs := fields(t, tc.record)
			for i := 0; i < len(pairs); i += 2 {
				fmt.Fprintf(&b, "%s %s\n", pairs[i], pairs[i+1])
			}
			golden(t, "fields-"+tc.name, b.String())
		})
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	for _, tc := range records(t) {
		t.Run(tc.name, func(t *testing.T) {
			pairs := fields(t, tc.record)
			want := tc.record
			want.Event.Schema = event.Schema
			text := make([]string, len(pairs))
			for i, v := range pairs {
				text[i] = v.(string)
			}
			for form, parse := range map[string]func() (event.Record, error){
				"map":    func() (event.Record, error) { return event.ParseRecord(asMap(pairs)) },
				"pairs":  func() (event.Record, error) { return event.ParseRecordPairs(text) },
				"values": func() (event.Record, error) { return event.ParseRecordValues(pairs) },
			} {
				got, err := parse()
				if err != nil {
					t.Fatalf("%s: %v", form, err)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s:\n got %+v\nwant %+v", form, got, want)
				}
			}
		})
	}
}

func TestRecordRoundTripProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := event.Record{Event: drawEvent(t), Raw: []byte(rapid.String().Draw(t, "raw"))}
		r.Event.Payment.OrderRef = rapid.String().Filter(func(s string) bool {
			return len(s) <= event.MaxRef && !strings.Contains(s, "\x00")
		}).Draw(t, "order")
		r.Event.Namespace = rapid.String().Draw(t, "namespace")
		r.Evidence.Headers = map[string]string{"X": rapid.String().Draw(t, "header")}
		if len(r.Raw) == 0 {
			r.Raw = nil
		}
		pairs, err := r.Fields()
		if err != nil {
			t.Fatal(err)
		}
		got, err := event.ParseRecordValues(pairs)
		if err != nil {
			t.Fatal(err)
		}
		r.Event.Schema = event.Schema
		if !reflect.DeepEqual(got, r) {
			t.Fatalf("\n got %+v\nwant %+v", got, r)
		}
	})
}

func TestParseRecordRefuses(t *testing.T) {
	inEvent := func(change func(e map[string]any)) func(f map[string]string) {
		return func(f map[string]string) {
			var e map[string]any
			if err := json.Unmarshal([]byte(f["event"]), &e); err != nil {
				panic(err)
			}
			change(e)
			b, err := json.Marshal(e)
			if err != nil {
				panic(err)
			}
			f["event"] = string(b)
		}
	}
	type change = func(f map[string]string)
	cases := map[string]struct {
		change change
		err    error
	}{
		"nothing":            {func(map[string]string) {}, nil},
		"an unknown field":   {func(f map[string]string) { f["trace"] = "1" }, nil},
		"an unknown member":  {inEvent(func(e map[string]any) { e["shipping"] = 1 }), nil},
		"another schema":     {func(f map[string]string) { f["schema"] = "payment-event/2" }, event.ErrSchema},
		"schema inside":      {inEvent(func(e map[string]any) { e["schema"] = "payment-event/2" }), event.ErrSchema},
		"no schema inside":   {inEvent(func(e map[string]any) { delete(e, "schema") }), event.ErrSchema},
		"event null":         {func(f map[string]string) { f["event"] = "null" }, event.ErrSchema},
		"event cut short":    {func(f map[string]string) { f["event"] = f["event"][:99] }, event.ErrRecord},
		"evidence cut short": {func(f map[string]string) { f["evidence"] = "{" }, event.ErrRecord},
		"item beside raw":    {func(f map[string]string) { f["item"] = "" }, event.ErrRecord},
		"money disagrees": {inEvent(func(e map[string]any) {
			e["payment"].(map[string]any)["amount"].(map[string]any)["minor"] = 1
		}), event.ErrRecord},
		"a fractional minor": {inEvent(func(e map[string]any) {
			e["payment"].(map[string]any)["amount"].(map[string]any)["minor"] = 0.5
		}), event.ErrRecord},
		"a negative index": {inEvent(func(e map[string]any) { e["raw"].(map[string]any)["index"] = -1 }), event.ErrRecord},
		"index asks for an item": {inEvent(func(e map[string]any) {
			e["raw"].(map[string]any)["index"] = 1
		}), event.ErrRecord},
		"no time": {inEvent(func(e map[string]any) { e["occurred_at"] = "13800000000" }), event.ErrRecord},
	}
	for _, name := range []string{"schema", "id", "type", "account", "order", "key", "facts", "event", "evidence", "raw"} {
		cases["no "+name] = struct {
			change change
			err    error
		}{func(f map[string]string) { delete(f, name) }, event.ErrRecord}
	}
	for _, name := range []string{"id", "type", "account", "order", "key", "facts"} {
		cases[name+" disagrees"] = struct {
			change change
			err    error
		}{func(f map[string]string) { f[name] += "0" }, event.ErrRecord}
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f := asMap(fields(t, records(t)[0].record))
			tc.change(f)
			_, err := event.ParseRecord(f)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil && strings.Contains(err.Error(), "13800000000") {
				t.Errorf("error %v repeats what came from outside", err)
			}
		})
	}
}

func TestParsePairsRefuse(t *testing.T) {
	pairs := fields(t, records(t)[0].record)
	for name, bad := range map[string][]any{
		"nothing":          {},
		"odd":              pairs[:len(pairs)-1],
		"twice":            append(append([]any{}, pairs...), "id", pairs[3]),
		"not text":         append(append([]any{}, pairs...), "n", 7),
		"nil in the place": append(append([]any{}, pairs...), nil, nil),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := event.ParseRecordValues(bad); !errors.Is(err, event.ErrRecord) {
				t.Errorf("error %v", err)
			}
		})
	}
	bytes := make([]any, len(pairs))
	for i, v := range pairs {
		bytes[i] = []byte(v.(string))
	}
	if _, err := event.ParseRecordValues(bytes); err != nil {
		t.Errorf("byte slices: %v", err)
	}
}

func TestFieldsRefuse(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(e *event.Event)
		err    error
	}{
		"another schema":              {func(e *event.Event) { e.Schema = "payment-event/2" }, event.ErrSchema},
		"no id":                       {func(e *event.Event) { e.ID = "" }, event.ErrRecord},
		"no type":                     {func(e *event.Event) { e.Type = "" }, event.ErrRecord},
		"no account":                  {func(e *event.Event) { e.Account = "" }, event.ErrRecord},
		"negative index":              {func(e *event.Event) { e.Raw.Index = -1 }, event.ErrRecord},
		"NUL in an order reference":   {func(e *event.Event) { e.Payment.OrderRef = "A\x001" }, event.ErrRecord},
		"NUL in a customer":           {func(e *event.Event) { e.Merchant.CustomerRef = "\x00" }, event.ErrRecord},
		"NUL in the provider's words": {func(e *event.Event) { e.ProviderEvent.Type = "a\x00" }, event.ErrRecord},
		"long provider reference":     {func(e *event.Event) { e.Payment.ProviderRef = strings.Repeat("x", event.MaxRef+1) }, event.ErrRecord},
		"long refund reference":       {func(e *event.Event) { e.Refund = &event.Refund{ProviderRef: strings.Repeat("x", event.MaxRef+1)} }, event.ErrRecord},
		"long dispute reference":      {func(e *event.Event) { e.Dispute = &event.Dispute{ProviderRef: strings.Repeat("x", event.MaxRef+1)} }, event.ErrRecord},
		"long SKU":                    {func(e *event.Event) { e.Stock = &event.Stock{SKU: strings.Repeat("x", event.MaxRef+1)} }, event.ErrRecord},
		"captured":                    {func(e *event.Event) { e.Payment.Captured = &event.Money{Value: "1"} }, event.ErrCurrency},
		"refunded total":              {func(e *event.Event) { e.Payment.RefundedTotal = &event.Money{Value: "1"} }, event.ErrCurrency},
		"refund amount":               {func(e *event.Event) { e.Refund = &event.Refund{Amount: &event.Money{}} }, event.ErrCurrency},
		"dispute amount":              {func(e *event.Event) { e.Dispute = &event.Dispute{Amount: &event.Money{}} }, event.ErrCurrency},
		"amount": {func(e *event.Event) {
			e.Payment.Amount = &event.Money{Value: "1.00", Minor: 10, Exponent: 2, Currency: "CNY"}
		}, event.ErrMoneyMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			r := event.Record{Event: succeeded()}
			tc.change(&r.Event)
			if _, err := r.Fields(); !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
		})
	}
}

// TestTimesOnTheWire: UTC, whole milliseconds, and a time that no RFC 3339 text
// can hold does not keep the event from being kept.
func TestTimesOnTheWire(t *testing.T) {
	r := event.Record{Event: succeeded()}
	east := time.FixedZone("", 8*3600)
	r.Event.OccurredAt = time.Date(2025, 7, 1, 20, 0, 0, 123999999, east)
	r.Event.ReceivedAt = time.Date(20250, 1, 1, 0, 0, 0, 0, time.UTC)
	r.Event.Dispute = &event.Dispute{DueBy: r.Event.OccurredAt}
	r.Evidence.SignedAt = r.Event.OccurredAt
	dispute := r.Event.Dispute
	f := asMap(fields(t, r))
	const want = `"2025-07-01T12:00:00.123Z"`
	for _, text := range []string{`"occurred_at":` + want, `"due_by":` + want, `"received_at":"0001-01-01T00:00:00Z"`} {
		if !strings.Contains(f["event"], text) {
			t.Errorf("%s is not in %s", text, f["event"])
		}
	}
	if !strings.Contains(f["evidence"], `"signed_at":`+want) {
		t.Errorf("evidence %s", f["evidence"])
	}
	if dispute.DueBy.Location() != east {
		t.Error("the caller's event was changed")
	}
	got, err := event.ParseRecord(f)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Event.ReceivedAt.IsZero() || got.Event.OccurredAt.Location() != time.UTC {
		t.Errorf("received at %s, occurred at %s", got.Event.ReceivedAt, got.Event.OccurredAt)
	}
}

// TestInvalidTextStaysReadable: a provider that sends no UTF-8 must not make an
// entry whose flat fields disagree with its JSON.
func TestInvalidTextStaysReadable(t *testing.T) {
	r := event.Record{Event: succeeded(), Raw: []byte("raw \xff\xfe bytes\x00")}
	r.Event.Payment.OrderRef = "A\xff\xfe1\xc3"
	r.Event.Account, r.Event.ID, r.Event.Type = "a\xff", "evt\xff", "t\xff"
	facts, key := r.Event.Facts(), r.Event.OrderingKey()
	got, err := event.ParseRecord(asMap(fields(t, r)))
	if err != nil {
		t.Fatal(err)
	}
	if got.Event.Facts() != facts || got.Event.OrderingKey() != key {
		t.Error("facts or ordering key differ on the other side of the wire")
	}
	if string(got.Raw) != string(r.Raw) {
		t.Errorf("raw %q, want %q", got.Raw, r.Raw)
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, tc := range records(f) {
		m := asMap(fields(f, tc.record))
		f.Add(m["schema"], m["id"], m["type"], m["account"], m["order"], m["key"], m["facts"], m["event"],
			m["evidence"], m["raw"], m["item"], tc.record.Event.Raw.Index > 0)
	}
	f.Fuzz(func(t *testing.T, schema, id, typ, account, order, key, facts, body, evidence, raw, item string, isItem bool) {
		m := map[string]string{
			"schema": schema, "id": id, "type": typ, "account": account, "order": order, "key": key,
			"facts": facts, "event": body, "evidence": evidence,
		}
		if isItem {
			m["item"] = item
		} else {
			m["raw"] = raw
		}
		// Make the flat fields agree where the event can be read at all, so that the
		// fuzzer gets past the comparison.
		var e event.Event
		if json.Unmarshal([]byte(body), &e) == nil && e.ID == id {
			m["key"], m["facts"], m["order"] = e.OrderingKey(), e.Facts().String(), e.OrderRef()
			m["type"], m["account"] = string(e.Type), e.Account
		}
		r, err := event.ParseRecord(m)
		if err != nil {
			if !errors.Is(err, event.ErrRecord) && !errors.Is(err, event.ErrSchema) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		pairs, err := r.Fields()
		if err != nil {
			t.Fatalf("was read and cannot be written: %v", err)
		}
		again, err := event.ParseRecordValues(pairs)
		if err != nil {
			t.Fatalf("was written and cannot be read: %v", err)
		}
		if !reflect.DeepEqual(r, again) {
			t.Fatalf("\n got %+v\nwant %+v", again, r)
		}
		var o event.Order
		o.Apply(&r.Event)
	})
}
