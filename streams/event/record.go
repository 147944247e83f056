package event

import "time"

// Record is an event with the evidence that travels beside it: what one stream
// entry carries. Fields and ParseRecord are its frozen wire form.
type Record struct {
	Event    Event
	Evidence Evidence
	// Raw is the callback's body as received. Of a callback with many events only
	// the one with index 0 carries it; the others carry Item.
	Raw []byte
	// Item is the event's own part of a callback with many events.
	Item []byte
}

// Evidence is how a callback was believed.
type Evidence struct {
	// KeyID names the configured key that matched; it is never key material.
	KeyID string `json:"key_id,omitempty"`
	// SignedAt is the time the signature covers; zero where none is signed.
	SignedAt time.Time `json:"signed_at,omitzero"`
	// Headers are the request headers that took part in verification, canonical
	// names, as received.
	Headers map[string]string `json:"headers,omitempty"`
}

// Appended says what became of one record.
type Appended uint8

// What an append can come to. All of them mean that the event is durable.
const (
	// New: the record is a new entry.
	New Appended = iota + 1
	// Duplicate: the same facts were appended before, within the dedup window.
	Duplicate
	// Conflicting: other facts were appended before under the same ID; the record
	// was kept as an entry of type conflict under an ID of its own.
	Conflicting
	// Journaled: the record is in the gateway's journal and goes to the stream from
	// there, which then finds whether it is new.
	Journaled
)
