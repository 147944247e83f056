package event

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// byEncodingJSON is what the hand-written encoder has to write.
func byEncodingJSON(t rapid.TB, v any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// anyText is text as it may come: of any bytes, and rich in what JSON writes otherwise.
func anyText() *rapid.Generator[string] {
	special := rapid.SampledFrom([]string{
		"", "a", "\"", "\\", "/", "<b>&", "\x00", "\x01\x1f", "\b\f\n\r\t", "\x7f", "\u2028", "\u2029", "\u202a", "\ufffd", "é", "支付", "😀",
		"\xff", "\xc3", "\xe2\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
	})
	return rapid.OneOf(
		special,
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 12), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.SliceOfN(special, 0, 5), func(s []string) string { return strings.Join(s, "x") }),
	)
}

func anyTime() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "unknown") {
			return time.Time{}
		}
		at := time.Unix(rapid.Int64Range(-1<<36, 1<<38).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds"))
		return at.In(time.FixedZone("", rapid.IntRange(-14*3600, 14*3600).Draw(t, "zone")))
	})
}

func anyPtr[T any](g *rapid.Generator[T]) *rapid.Generator[*T] { return rapid.Ptr(g, true) }

func anyMoney() *rapid.Generator[*Money] {
	return anyPtr(rapid.Custom(func(t *rapid.T) Money {
		return Money{
			Value: anyText().Draw(t, "value"), Minor: rapid.Int64().Draw(t, "minor"),
			Exponent: rapid.Int().Draw(t, "exponent"), Currency: anyText().Draw(t, "currency"),
		}
	}))
}

func anyPayment() *rapid.Generator[Payment] {
	return rapid.Custom(func(t *rapid.T) Payment {
		text := func(name string) string { return anyText().Draw(t, name) }
		return Payment{
			OrderRef: text("order"), ProviderRef: text("provider"), ParentRef: text("parent"),
			RelatedRefs: rapid.SliceOfN(anyText(), 0, 3).Draw(t, "related"), Method: text("method"),
			Amount: anyMoney().Draw(t, "amount"), Captured: anyMoney().Draw(t, "captured"),
			RefundedTotal: anyMoney().Draw(t, "refunded"),
			Failure: anyPtr(rapid.Custom(func(t *rapid.T) Failure {
				return Failure{Code: anyText().Draw(t, "code"), Message: anyText().Draw(t, "message")}
			})).Draw(t, "failure"),
			Final: rapid.Bool().Draw(t, "final"),
		}
	})
}

func anyEvent() *rapid.Generator[Event] {
	return rapid.Custom(func(t *rapid.T) Event {
		text := func(name string) string { return anyText().Draw(t, name) }
		e := Event{
			Schema: Schema, ID: text("id"), Type: Type(text("type")), ConflictOf: text("conflict"), Account: text("account"),
			Namespace: text("namespace"), Provider: text("provider"), Live: anyPtr(rapid.Bool()).Draw(t, "live"),
			OccurredAt: anyTime().Draw(t, "occurred"), ReceivedAt: anyTime().Draw(t, "received"),
			ProviderEvent: ProviderEvent{
				ID: text("provider event"), IDAuthenticated: rapid.Bool().Draw(t, "authenticated"), Type: text("provider type"),
				Sequence: anyPtr(rapid.Int64()).Draw(t, "sequence"),
			},
			Payment: anyPtr(anyPayment()).Draw(t, "payment"),
			Refund: anyPtr(rapid.Custom(func(t *rapid.T) Refund {
				return Refund{OrderRef: anyText().Draw(t, "order"), ProviderRef: anyText().Draw(t, "refund"), Amount: anyMoney().Draw(t, "amount")}
			})).Draw(t, "refund"),
			Dispute: anyPtr(rapid.Custom(func(t *rapid.T) Dispute {
				return Dispute{
					ProviderRef: anyText().Draw(t, "dispute"), Reason: anyText().Draw(t, "reason"),
					Amount: anyMoney().Draw(t, "amount"), DueBy: anyTime().Draw(t, "due"),
				}
			})).Draw(t, "dispute"),
			Stock: anyPtr(rapid.Custom(func(t *rapid.T) Stock {
				n := anyPtr(rapid.Int64())
				return Stock{SKU: anyText().Draw(t, "sku"), Available: n.Draw(t, "available"), Change: n.Draw(t, "change")}
			})).Draw(t, "stock"),
			LeftOut:      rapid.SliceOfN(anyText(), 0, 3).Draw(t, "left out"),
			Authenticity: Authenticity(text("authenticity")), Completeness: Completeness(text("completeness")),
			Raw: Raw{CallbackID: text("callback"), SHA256: text("sha256"), Index: rapid.Int().Draw(t, "index")},
		}
		if rapid.Bool().Draw(t, "merchant") {
			e.Merchant = Merchant{Account: text("merchant account"), App: text("app"), CustomerRef: text("customer")}
		}
		return e
	})
}

func anyEvidence() *rapid.Generator[Evidence] {
	return rapid.Custom(func(t *rapid.T) Evidence {
		return Evidence{
			KeyID: anyText().Draw(t, "key"), SignedAt: anyTime().Draw(t, "signed"),
			Headers: rapid.MapOfN(anyText(), anyText(), 0, 12).Draw(t, "headers"),
		}
	})
}

func TestEncodingIsThatOfEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, v := anyEvent().Draw(t, "event"), anyEvidence().Draw(t, "evidence")
		gotEvent, gotEvidence := string(appendEvent([]byte("x"), &e)), string(appendEvidence([]byte("x"), &v))
		e.timesAsWritten()
		v.asWritten()
		if want := "x" + byEncodingJSON(t, e); gotEvent != want {
			t.Fatalf("\n got %s\nwant %s", gotEvent, want)
		}
		if want := "x" + byEncodingJSON(t, v); gotEvidence != want {
			t.Fatalf("\n got %s\nwant %s", gotEvidence, want)
		}
	})
}

// sameAsEncodingJSON checks that text is read, or refused, as encoding/json does it.
func sameAsEncodingJSON[T any](t rapid.TB, text string, read func(string, *T) error) {
	t.Helper()
	var got, want T
	gotErr, wantErr := read(text, &got), decode(text, &want)
	if (gotErr == nil) != (wantErr == nil) || gotErr != nil && gotErr.Error() != wantErr.Error() {
		t.Fatalf("%q: error %v, encoding/json says %v", text, gotErr, wantErr)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q:\n got %+v\nwant %+v", text, got, want)
	}
}

func TestDecodingIsThatOfEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, v := anyEvent().Draw(t, "event"), anyEvidence().Draw(t, "evidence")
		event, evidence := string(appendEvent(nil, &e)), string(appendEvidence(nil, &v))
		sameAsEncodingJSON(t, event, decodeEvent)
		sameAsEncodingJSON(t, evidence, decodeEvidence)
		sameAsEncodingJSON(t, damaged(t, event), decodeEvent)
		sameAsEncodingJSON(t, damaged(t, evidence), decodeEvidence)
	})
}

// damaged puts something in the place of a part of text.
func damaged(t *rapid.T, text string) string {
	from := rapid.IntRange(0, len(text)).Draw(t, "from")
	to := rapid.IntRange(from, min(len(text), from+8)).Draw(t, "to")
	return text[:from] + rapid.SampledFrom([]string{
		"", " ", "\n", "null", "{}", "[]", "0", "-0", "01", "1.0", "1e3", "-", ",", ":", "\"", "\\", "\\u00e9", "\\ud83d\\ude00", "\\ud83d",
		"\\x", "}", "]", "true", "E", "\xff", "\x00", "é", `"id":"x",`, `,"id":1`, `,"Account":"x"`, "{}{}",
	}).Draw(t, "damage") + text[to:]
}

// What one decoder might take and the other not, one by one.
func TestUnusualJSONIsReadAsByEncodingJSON(t *testing.T) {
	for _, text := range []string{
		``, ` `, `{}`, ` {}`, `{} `, `{}x`, `{},`, `[]`, `null`, `{"schema":null}`, `{"SCHEMA":"s"}`, `{"schema":"a","schema":"b"}`,
		`{"schema":"a","Schema":"b"}`, `{"schema" :"a"}`, `{"schema":"a",}`, `{,}`, `{"schema"}`, `{"schema":}`, `{schema:1}`,
		`{"schema":"\u0041\u00e9\ufffd\/"}`, `{"schema":"\ud83d\ude00"}`, `{"schema":"\ud83d"}`, `{"schema":"\uD8"}`, `{"schema":"\q"}`,
		"{\"schema\":\"\xff\"}", "{\"schema\":\"a\tb\"}", `{"schema":"a`, `{"schema":"a\`, `{"\u0073chema":"a"}`, `{"other":{"schema":1}}`,
		`{"live":true}`, `{"live":null}`, `{"live":tru}`, `{"live":truefalse}`, `{"live":"true"}`,
		`{"raw":{"index":1}}`, `{"raw":{"index":01}}`, `{"raw":{"index":-0}}`, `{"raw":{"index":-}}`, `{"raw":{"index":1.0}}`, `{"raw":{"index":1e2}}`,
		`{"raw":{"index":9223372036854775807}}`, `{"raw":{"index":9223372036854775808}}`, `{"raw":{"index":123456789012345678}}`,
		`{"raw":{"index":""}}`, `{"raw":null}`, `{"raw":{"index":1},"raw":{"sha256":"x"}}`,
		`{"payment":{}}`, `{"payment":null}`, `{"payment":{"related_refs":[]}}`, `{"payment":{"related_refs":["a",null]}}`, `{"payment":{"related_refs":null}}`,
		`{"payment":{"amount":{"minor":1},"amount":{"value":"1"}}}`, `{"left_out":["a","b"]}`, `{"left_out":["a",]}`,
		`{"occurred_at":"2025-07-01T02:03:04Z"}`, `{"occurred_at":"2025-07-01T02:03:04.1Z"}`, `{"occurred_at":"2025-07-01T02:03:04,1Z"}`,
		`{"occurred_at":"2025-07-01T2:03:04Z"}`, `{"occurred_at":"2025-07-01T2:03:04.00Z"}`, `{"occurred_at":"2025-02-30T02:03:04Z"}`,
		`{"occurred_at":"2025-07-01T24:03:04Z"}`, `{"occurred_at":"2025-07-01T02:03:60Z"}`, `{"occurred_at":"2025-07-01T02:03:04+02:00"}`,
		`{"occurred_at":"2025-07-01T02:03:04z"}`, `{"occurred_at":"2025-07-01T02:03:04\u005a"}`, `{"occurred_at":""}`, `{"occurred_at":null}`,
		`{"occurred_at":"2025-07-01 02:03:04Z"}`, `{"occurred_at":"2025-07-01T02:03:04.Z"}`, `{"occurred_at":"2025-07-01T02:03:04.1234567891Z"}`,
	} {
		sameAsEncodingJSON(t, text, decodeEvent)
	}
	for _, text := range []string{
		`{}`, `{"headers":{}}`, `{"headers":null}`, `{"headers":{"a":"1","a":"2"}}`, `{"headers":{"a":null}}`, `{"headers":{"a":"1",}}`,
		`{"headers":{"a":1}}`, `{"headers":{"a":"1"}`, `{"headers":{"a":"1"},"key_id":"k"}`,
	} {
		sameAsEncodingJSON(t, text, decodeEvidence)
	}
}

// goldenJSON is the JSON in the golden files.
func goldenJSON(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/fields-*.golden")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	var out []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, " "); name == FieldEvent || name == FieldEvidence {
				out = append(out, strings.TrimSuffix(value, "\n"))
			}
		}
	}
	return out
}

// What Fields writes is not left to encoding/json, which is slower by far.
func TestOwnFormIsDecodedByHand(t *testing.T) {
	for _, text := range goldenJSON(t) {
		event, evidence := decoder{text: text}, decoder{text: text}
		event.event(new(Event))
		evidence.evidence(new(Evidence))
		if !event.done() && !evidence.done() {
			t.Errorf("left to encoding/json: %s", text)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, text := range goldenJSON(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		sameAsEncodingJSON(t, text, decodeEvent)
		sameAsEncodingJSON(t, text, decodeEvidence)
		var e Event
		if decodeEvent(text, &e) == nil {
			written := string(appendEvent(nil, &e))
			e.Schema = Schema
			e.timesAsWritten()
			if want := byEncodingJSON(t, e); written != want {
				t.Fatalf("\n got %s\nwant %s", written, want)
			}
		}
	})
}
