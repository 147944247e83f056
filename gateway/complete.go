package gateway

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// complete makes records of what the provider decoded: it adds what only the
// gateway knows and what no provider may decide. Two events of one callback under
// one key are left to the append, which finds them a duplicate or a conflict as
// it would over two callbacks.
func (a *account) complete(cb *provider.Callback, v *provider.Verified, decoded []provider.Decoded) []event.Record {
	sum := sha256.Sum256(cb.Body)
	digest := hexText(sum)
	received := milliseconds(cb.ReceivedAt)
	records := make([]event.Record, len(decoded))
	for i := range decoded {
		d, r := &decoded[i], &records[i]
		r.Evidence = v.Evidence
		if i == 0 {
			r.Raw = cb.Body // the others travel with their own item alone
		} else {
			r.Item = d.Item
		}
		r.Event = d.Event
		e := &r.Event
		a.frame(e, received, event.Raw{CallbackID: cb.ID, SHA256: digest, Index: i})
		leaveOut(e)
		e.ID = a.eventID(d.Key, sum, i)
		e.ConflictOf = ""
		e.OccurredAt = milliseconds(e.OccurredAt)
		// Only the append knows a conflict, and what a provider leaves unsaid moves
		// no money.
		if e.Type == "" || e.Type == event.Conflict {
			e.Type = event.Unmapped
		}
		if e.Authenticity == "" {
			e.Authenticity = event.Unverified
		}
		if e.Completeness == "" {
			e.Completeness = event.NeedsFetch
		}
	}
	return records
}

// leaveOut drops references that no database can hold and that decide nothing: they
// must not cost the event. What names an order, a payment or the event has to be kept,
// and makes the callback unreadable instead: see simplify.
func leaveOut(e *event.Event) {
	if event.CheckRef(e.Merchant.CustomerRef) != nil {
		e.Merchant.CustomerRef = ""
		e.LeftOut = append(e.LeftOut, event.LeftOutCustomerRef)
	}
	if e.Refund != nil && event.CheckRef(e.Refund.OrderRef) != nil {
		r := *e.Refund
		r.OrderRef = ""
		e.Refund, e.LeftOut = &r, append(e.LeftOut, event.LeftOutRefundOrderRef)
	}
}

// frame fills in what every event of an account has in common.
func (a *account) frame(e *event.Event, received time.Time, raw event.Raw) {
	e.Schema = event.Schema
	e.Account, e.Namespace, e.Provider = a.Name, a.Namespace, a.ProviderName
	e.ReceivedAt, e.Raw = received, raw
}

// eventID is the same for every delivery of one fact.
func (a *account) eventID(key string, sum [sha256.Size]byte, index int) string {
	if key == "" {
		return event.NewBodyID(a.ProviderName, a.Name, sum, index)
	}
	return event.NewID(a.ProviderName, a.Name, key)
}

// simplify replaces events that cannot be written, such as one whose amount
// contradicts itself, by what stands for an unreadable callback. Their key is the
// body: they must not take the ID of the event they could not be.
func (a *account) simplify(body []byte, records []event.Record) {
	sum := sha256.Sum256(body)
	for i := range records {
		if records[i].Event.Check() == nil {
			continue
		}
		could := records[i].Event
		e := event.NewUndecodable()
		a.frame(&e, could.ReceivedAt, could.Raw)
		e.ID = a.eventID("", sum, i)
		records[i].Event = e
	}
}

// digest is the lower-case hex SHA-256 of a body.
func digest(body []byte) string {
	return hexText(sha256.Sum256(body))
}

func hexText(sum [sha256.Size]byte) string {
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], sum[:])
	return string(text[:])
}

// unreadable stands for an authentic callback that its provider cannot read. Its
// key is the body.
func unreadable() []provider.Decoded {
	return []provider.Decoded{{Event: event.NewUndecodable()}}
}

// milliseconds is a time as events carry it.
func milliseconds(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Millisecond)
}

// callbackIDs is base32 whose letters sort as their values do.
var callbackIDs = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// newCallbackID names a request: 48 bits of time, so that names sort by arrival,
// and 80 bits of chance.
func newCallbackID(at time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(at.UnixMilli())<<16)
	binary.BigEndian.PutUint16(b[6:8], uint16(rand.Uint32())) //nolint:gosec // a name has to be unique, and is no secret
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())          //nolint:gosec // as above
	const prefix = "cb_"
	text := append(make([]byte, 0, len(prefix)+26), prefix...)
	return string(callbackIDs.AppendEncode(text, b[:]))
}
