package event

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
)

// appendJSON appends the JSON of an order: byte for byte what encoding/json makes of
// stored, which TestOrderJSONIsThatOfItsTypes holds. An order is written with every
// event, and its maps cost encoding/json more than the folding does.
func (in *stored) appendJSON(b []byte) []byte {
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, int64(in.Version), 10)
	if in.Stage != stageNone {
		b = appendString(append(b, `,"stage":`...), in.Stage.String())
	}
	if in.LastPending != nil {
		b = appendMark(append(b, `,"last_pending":`...), in.LastPending)
	}
	if in.LastFailure != nil {
		b = appendMark(append(b, `,"last_failure":`...), in.LastFailure)
	}
	b = appendMapMember(b, "closed", in.Closed, appendMark)
	b = appendFlag(b, "final", in.Final)
	b = appendMapMember(b, "customers", in.Customers, appendMark)
	b = appendMapMember(b, "currencies", in.Currencies, appendMark)
	b = appendMapMember(b, "accounts", in.Accounts, appendLedger)
	if in.Unnamed != (attempt{}) {
		b = appendAttempt(append(b, `,"unnamed":`...), in.Unnamed)
	}
	if len(in.Unreadable) > 0 {
		b = appendNames(append(b, `,"unreadable":`...), in.Unreadable)
	}
	b = appendFlag(b, "capped", in.Capped)
	b = appendFlag(b, "negative", in.Negative)
	return append(b, '}')
}

func appendLedger(b []byte, l *ledger) []byte {
	if l == nil {
		return append(b, "null"...)
	}
	start := len(b)
	b = appendMapMember(b, "attempts", l.Attempts, appendAttempt)
	b = appendMapMember(b, "captures", l.Captures, func(b []byte, a amounts) []byte {
		return appendMap(b, a, func(b []byte, set []amount) []byte { return appendList(b, set, appendAmount) })
	})
	b = appendMapMember(b, "captured_totals", l.CapturedTotals, appendTotals)
	b = appendMapMember(b, "refunded", l.RefundedTotals, func(b []byte, s series) []byte { return appendMap(b, s, appendSeries) })
	b = appendMapMember(b, "refunds", l.Refunds, appendAllTold)
	b = appendMapMember(b, "disputes", l.Disputes, appendAllTold)
	b = appendMapMember(b, "refund_of", l.RefundOf, appendNames)
	b = appendMapMember(b, "dispute_of", l.DisputeOf, appendNames)
	b = appendMapMember(b, "related", l.Related, appendNames)
	if len(l.Elsewhere) > 0 {
		b = appendNames(append(b, `,"elsewhere":`...), l.Elsewhere)
	}
	b = appendMapMember(b, "refunded_totals", l.largestRefundedTotals(), appendTotals)
	return object(b, start)
}

func appendFlag(b []byte, name string, is bool) []byte {
	if !is {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	return append(b, `":true`...)
}

func appendMoment(b []byte, name string, at int64) []byte {
	if at == 0 {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return strconv.AppendInt(b, at, 10)
}

// appendMapMember appends a map that is left out while it is empty.
func appendMapMember[V any](b []byte, name string, m map[string]V, value func([]byte, V) []byte) []byte {
	if len(m) == 0 {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	return appendMap(append(b, `":`...), m, value)
}

func appendMap[V any](b []byte, m map[string]V, value func([]byte, V) []byte) []byte {
	if m == nil {
		return append(b, "null"...)
	}
	start := len(b)
	if len(m) == 1 { // As most have it: nothing is to be sorted.
		for key, v := range m {
			b = appendString(append(b, ','), key)
			b = value(append(b, ':'), v)
		}
		return object(b, start)
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		b = appendString(append(b, ','), key)
		b = value(append(b, ':'), m[key])
	}
	return object(b, start)
}

func appendList[T any](b []byte, list []T, value func([]byte, T) []byte) []byte {
	if list == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = value(b, v)
	}
	return append(b, ']')
}

func appendMark(b []byte, m *mark) []byte {
	if m == nil {
		return append(b, "null"...)
	}
	start := len(b)
	b = appendMoment(b, "at_ms", m.At)
	if m.ID != "" {
		b = appendString(append(b, `,"id":`...), m.ID)
	}
	return object(b, start)
}

func appendAttempt(b []byte, a attempt) []byte {
	start := len(b)
	b = appendMoment(b, "pending", int64(a.Pending))
	b = appendMoment(b, "authorized", int64(a.Authorized))
	b = appendMoment(b, "failed", int64(a.Failed))
	b = appendMoment(b, "closed", int64(a.Closed))
	return object(b, start)
}

func appendTotals(b []byte, t totals) []byte {
	return appendMap(b, t, func(b []byte, a *amount) []byte {
		if a == nil {
			return append(b, "null"...)
		}
		return appendAmount(b, *a)
	})
}

func appendSeries(b []byte, told map[amount]moment) []byte {
	if told == nil {
		return append(b, "null"...)
	}
	texts := make(map[string]moment, len(told))
	for a, at := range told {
		texts[a.String()] = at
	}
	return appendMap(b, texts, func(b []byte, at moment) []byte { return strconv.AppendInt(b, int64(at), 10) })
}

func appendAllTold(b []byte, set []told) []byte { return appendList(b, set, appendTold) }

func appendTold(b []byte, t told) []byte {
	b = appendString(append(b, `{"value":`...), string(t.Value))
	if t.Sequence != nil {
		b = strconv.AppendInt(append(b, `,"sequence":`...), *t.Sequence, 10)
	}
	b = appendMoment(b, "at_ms", t.At)
	if t.Amount != (amount{}) {
		b = appendAmount(append(b, `,"amount":`...), t.Amount)
	}
	if t.Currency != "" {
		b = appendString(append(b, `,"currency":`...), t.Currency)
	}
	return append(b, '}')
}

func appendAmount(b []byte, a amount) []byte {
	b = append(b, '"')
	b = appendDecimal(b, a.unscaled, int(a.exponent))
	return append(b, '"')
}

func appendNames(b []byte, names []string) []byte { return appendList(b, names, appendString) }

// appendString appends a JSON string with the escapes for HTML that rows have, unlike
// entries (appendText). What has to be escaped is left to encoding/json.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // A string always has a JSON form.
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
