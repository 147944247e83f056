package event

import "encoding/json"

// ReflectedJSON is what encoding/json makes of an order's types, with the methods below.
func ReflectedJSON(o *Order) ([]byte, error) { return json.Marshal(store(o.s)) }

// MarshalText implements encoding.TextMarshaler.
func (a amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// MarshalText implements encoding.TextMarshaler.
func (s stage) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON implements json.Marshaler.
func (l *ledger) MarshalJSON() ([]byte, error) {
	return json.Marshal(storedLedger{(*plainLedger)(l), l.largestRefundedTotals()})
}
