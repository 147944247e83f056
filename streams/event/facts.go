package event

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
)

// Facts is the fingerprint of what an event claims. Two callbacks with one ID
// and one fingerprint are a redelivery, whatever else in them differs; with
// different fingerprints they are a conflict.
//
// It is the first 8 bytes of the SHA-256 of these texts, in this order, each as a
// netstring (its length in bytes in decimal, a colon, the text, a comma) so that no
// text can run into the next:
//
//	"payment-facts/1", type, provider_event.type,
//	payment.order_ref, .provider_ref, .parent_ref, .amount, .captured, .refunded_total,
//	refund.order_ref, .provider_ref, .amount, dispute.provider_ref, .amount,
//	stock.sku, .available, .change
//
// Absent is the empty text. An amount is its currency, a space and its shortest
// decimal text ("CNY 88.1"). Times, attempt counters, signatures, raw bytes, the
// customer reference and failure texts are not in it: honest redeliveries change
// them. What it covers never changes within one Schema; members added to an Event
// later stay outside it.
type Facts uint64

// factsSchema separates this fingerprint from any later one.
const factsSchema = "payment-facts/1"

// Facts returns the fingerprint of e.
func (e *Event) Facts() Facts {
	b := make([]byte, 0, 512)
	b = appendNetstring(b, factsSchema)
	b = appendNetstring(b, string(e.Type))
	b = appendNetstring(b, e.ProviderEvent.Type)
	var p Payment
	if e.Payment != nil {
		p = *e.Payment
	}
	b = appendNetstring(b, p.OrderRef)
	b = appendNetstring(b, p.ProviderRef)
	b = appendNetstring(b, p.ParentRef)
	b = appendMoney(b, p.Amount)
	b = appendMoney(b, p.Captured)
	b = appendMoney(b, p.RefundedTotal)
	var r Refund
	if e.Refund != nil {
		r = *e.Refund
	}
	b = appendNetstring(b, r.OrderRef)
	b = appendNetstring(b, r.ProviderRef)
	b = appendMoney(b, r.Amount)
	var d Dispute
	if e.Dispute != nil {
		d = *e.Dispute
	}
	b = appendNetstring(b, d.ProviderRef)
	b = appendMoney(b, d.Amount)
	var s Stock
	if e.Stock != nil {
		s = *e.Stock
	}
	b = appendNetstring(b, s.SKU)
	b = appendCount(b, s.Available)
	b = appendCount(b, s.Change)
	sum := sha256.Sum256(b)
	return Facts(binary.BigEndian.Uint64(sum[:8]))
}

// String is the fingerprint as 16 lower-case hex digits.
func (f Facts) String() string { return string(f.append(make([]byte, 0, 16))) }

// append appends what String returns.
func (f Facts) append(b []byte) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[f>>shift&0xF])
	}
	return b
}

// ParseFacts reads what String wrote.
func ParseFacts(text string) (Facts, error) {
	n, err := strconv.ParseUint(text, 16, 64)
	if err != nil || Facts(n).String() != text {
		return 0, ErrFacts
	}
	return Facts(n), nil
}

func appendNetstring(b []byte, s string) []byte {
	s = validText(s)
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, ':')
	b = append(b, s...)
	return append(b, ',')
}

func appendMoney(b []byte, m *Money) []byte {
	if m == nil {
		return appendNetstring(b, "")
	}
	if m.Exponent < 0 || m.Exponent > maxExponent {
		// No constructor makes such Money; it still has to be told from any other.
		return appendNetstring(b, m.Currency+" "+strconv.FormatInt(m.Minor, 10)+"e-"+strconv.Itoa(m.Exponent))
	}
	var buf [decimalLen + 8]byte
	a := amountOf(*m)
	text := append(append(buf[:0], validText(m.Currency)...), ' ')
	text = appendDecimal(text, a.unscaled, int(a.exponent))
	b = strconv.AppendInt(b, int64(len(text)), 10)
	b = append(b, ':')
	b = append(b, text...)
	return append(b, ',')
}

func appendCount(b []byte, n *int64) []byte {
	if n == nil {
		return appendNetstring(b, "")
	}
	return appendNetstring(b, strconv.FormatInt(*n, 10))
}
