package event

import (
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// The functions below write what encoding/json writes for the same value without
// escaping for HTML, byte for byte (TestEncodingIsThatOfEncodingJSON), in one pass and
// without reflection. A member that may be left out starts with its comma, so the first
// member of an object is one that is always there, or comma drops what is too much.

// appendEvent appends the JSON of e, with its schema named and its times as wireTime
// has them.
func appendEvent(b []byte, e *Event) []byte {
	b = append(b, `{"schema":"`+Schema+`","event_id":`...)
	b = appendText(b, e.ID)
	b = append(b, `,"type":`...)
	b = appendText(b, string(e.Type))
	b = appendMember(b, `,"conflict_of":`, e.ConflictOf)
	b = append(b, `,"account":`...)
	b = appendText(b, e.Account)
	b = append(b, `,"namespace":`...)
	b = appendText(b, e.Namespace)
	b = append(b, `,"provider":`...)
	b = appendText(b, e.Provider)
	if e.Live != nil {
		b = append(b, `,"live":`...)
		b = strconv.AppendBool(b, *e.Live)
	}
	b = appendTimeMember(b, `,"occurred_at":`, e.OccurredAt)
	b = append(b, `,"received_at":`...)
	b = appendTime(b, wireTime(e.ReceivedAt))
	b = append(b, `,"provider_event":`...)
	b = appendProviderEvent(b, &e.ProviderEvent)
	if m := &e.Merchant; *m != (Merchant{}) {
		b = append(b, `,"merchant":`...)
		start := len(b)
		b = appendMember(b, `,"account":`, m.Account)
		b = appendMember(b, `,"app":`, m.App)
		b = appendMember(b, `,"customer_ref":`, m.CustomerRef)
		b = object(b, start)
	}
	if e.Payment != nil {
		b = append(b, `,"payment":`...)
		b = appendPayment(b, e.Payment)
	}
	if r := e.Refund; r != nil {
		b = append(b, `,"refund":`...)
		start := len(b)
		b = appendMember(b, `,"order_ref":`, r.OrderRef)
		b = appendMember(b, `,"provider_ref":`, r.ProviderRef)
		b = appendMoneyMember(b, `,"amount":`, r.Amount)
		b = object(b, start)
	}
	if d := e.Dispute; d != nil {
		b = append(b, `,"dispute":`...)
		start := len(b)
		b = appendMember(b, `,"provider_ref":`, d.ProviderRef)
		b = appendMember(b, `,"reason":`, d.Reason)
		b = appendMoneyMember(b, `,"amount":`, d.Amount)
		b = appendTimeMember(b, `,"due_by":`, d.DueBy)
		b = object(b, start)
	}
	if s := e.Stock; s != nil {
		b = append(b, `,"stock":{"sku":`...)
		b = appendText(b, s.SKU)
		b = appendNumberMember(b, `,"available":`, s.Available)
		b = appendNumberMember(b, `,"change":`, s.Change)
		b = append(b, '}')
	}
	b = appendListMember(b, `,"left_out":`, e.LeftOut)
	b = append(b, `,"authenticity":`...)
	b = appendText(b, string(e.Authenticity))
	b = append(b, `,"completeness":`...)
	b = appendText(b, string(e.Completeness))
	b = append(b, `,"raw":{"callback_id":`...)
	b = appendText(b, e.Raw.CallbackID)
	b = append(b, `,"sha256":`...)
	b = appendText(b, e.Raw.SHA256)
	b = append(b, `,"index":`...)
	b = strconv.AppendInt(b, int64(e.Raw.Index), 10)
	return append(b, '}', '}')
}

func appendProviderEvent(b []byte, p *ProviderEvent) []byte {
	start := len(b)
	b = appendMember(b, `,"id":`, p.ID)
	b = append(b, `,"id_authenticated":`...)
	b = strconv.AppendBool(b, p.IDAuthenticated)
	b = appendMember(b, `,"type":`, p.Type)
	b = appendNumberMember(b, `,"sequence":`, p.Sequence)
	return object(b, start)
}

func appendPayment(b []byte, p *Payment) []byte {
	start := len(b)
	b = appendMember(b, `,"order_ref":`, p.OrderRef)
	b = appendMember(b, `,"provider_ref":`, p.ProviderRef)
	b = appendMember(b, `,"parent_ref":`, p.ParentRef)
	b = appendListMember(b, `,"related_refs":`, p.RelatedRefs)
	b = appendMember(b, `,"method":`, p.Method)
	b = appendMoneyMember(b, `,"amount":`, p.Amount)
	b = appendMoneyMember(b, `,"captured":`, p.Captured)
	b = appendMoneyMember(b, `,"refunded_total":`, p.RefundedTotal)
	if f := p.Failure; f != nil {
		b = append(b, `,"failure":`...)
		start := len(b)
		b = appendMember(b, `,"code":`, f.Code)
		b = appendMember(b, `,"message":`, f.Message)
		b = object(b, start)
	}
	if p.Final {
		b = append(b, `,"final":true`...)
	}
	return object(b, start)
}

// appendEvidence appends the JSON of v, with its time as wireTime has it.
func appendEvidence(b []byte, v *Evidence) []byte {
	start := len(b)
	b = appendMember(b, `,"key_id":`, v.KeyID)
	b = appendTimeMember(b, `,"signed_at":`, v.SignedAt)
	if len(v.Headers) > 0 {
		b = append(b, `,"headers":`...)
		b = appendHeaders(b, v.Headers)
	}
	return object(b, start)
}

// appendHeaders appends the headers by name, so that equal evidence has equal JSON.
func appendHeaders(b []byte, headers map[string]string) []byte {
	var few [8]string
	names := slices.AppendSeq(few[:0], maps.Keys(headers))
	slices.Sort(names)
	start := len(b)
	for _, name := range names {
		b = append(b, ',')
		b = appendText(b, name)
		b = append(b, ':')
		b = appendText(b, headers[name])
	}
	return object(b, start)
}

// object closes an object whose members, each behind a comma, begin at start: the
// first comma becomes the brace.
func object(b []byte, start int) []byte {
	if len(b) == start {
		return append(b, '{', '}')
	}
	b[start] = '{'
	return append(b, '}')
}

// appendMember appends a text, or nothing where it is empty.
func appendMember(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return appendText(append(b, name...), text)
}

func appendNumberMember(b []byte, name string, n *int64) []byte {
	if n == nil {
		return b
	}
	return strconv.AppendInt(append(b, name...), *n, 10)
}

func appendTimeMember(b []byte, name string, t time.Time) []byte {
	if t = wireTime(t); t.IsZero() {
		return b
	}
	return appendTime(append(b, name...), t)
}

func appendMoneyMember(b []byte, name string, m *Money) []byte {
	if m == nil {
		return b
	}
	b = append(append(b, name...), `{"value":`...)
	b = appendText(b, m.Value)
	b = append(b, `,"minor":`...)
	b = strconv.AppendInt(b, m.Minor, 10)
	b = append(b, `,"exponent":`...)
	b = strconv.AppendInt(b, int64(m.Exponent), 10)
	b = append(b, `,"currency":`...)
	b = appendText(b, m.Currency)
	return append(b, '}')
}

func appendListMember(b []byte, name string, texts []string) []byte {
	if len(texts) == 0 {
		return b
	}
	b = append(append(b, name...), '[')
	for i, text := range texts {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, text)
	}
	return append(b, ']')
}

// appendTime appends a time that wireTime made.
func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	b = t.AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

const hexDigits = "0123456789abcdef"

// appendText appends a text in quotes.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			b = appendEscaped(b, c)
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(append(b, s[start:i]...), `\ufffd`...)
			start = i + n
		case r == '\u2028' || r == '\u2029': // line ends in JavaScript
			b = append(append(b, s[start:i]...), `\u202`...)
			b = append(b, hexDigits[r&0xF])
			start = i + n
		}
		i += n
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// appendEscaped appends a byte that cannot stand in a text as it is.
func appendEscaped(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, '\\', 'b')
	case '\f':
		return append(b, '\\', 'f')
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	default:
		return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
	}
}
