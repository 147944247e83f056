package event

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Names of the fields of an entry, in the order in which they are written. They
// are a public contract: any subscriber may read them.
const (
	FieldSchema   = "schema"   // version of this form: Schema
	FieldID       = "id"       // Event.ID
	FieldType     = "type"     // Event.Type
	FieldAccount  = "account"  // Event.Account
	FieldOrder    = "order"    // Event.OrderRef, may be empty
	FieldKey      = "key"      // Event.OrderingKey
	FieldFacts    = "facts"    // Event.Facts, 16 hex digits
	FieldEvent    = "event"    // the event as JSON
	FieldEvidence = "evidence" // Evidence as JSON
	FieldRaw      = "raw"      // Record.Raw, in the entry with index 0
	FieldItem     = "item"     // Record.Item, in the others
)

// names are the fields of an entry in the order in which they are written. The last
// place is FieldRaw's or FieldItem's.
var names = [...]string{
	FieldSchema, FieldID, FieldType, FieldAccount, FieldOrder, FieldKey, FieldFacts, FieldEvent, FieldEvidence, FieldRaw,
}

// Places in names and in Wire.Values.
const (
	atSchema = iota
	atID
	atType
	atAccount
	atOrder
	atKey
	atFacts
	atEvent
	atEvidence
	atBody
	fields
)

// Wire is the wire form of a record.
type Wire struct {
	// Values are those of the fields FieldSchema to FieldEvidence, in their order.
	Values [atBody]string
	// BodyName is FieldRaw or FieldItem, and Body what it holds: the record's own bytes.
	BodyName string
	Body     []byte
	// Facts are the event's.
	Facts Facts
}

// Key is the event's ordering key.
func (w *Wire) Key() string { return w.Values[atKey] }

// Fields returns the record as field, value, field, value, ready for XADD. Every
// one is a string. The flat fields are for readers without a JSON parser; what
// they say is also in the event.
func (r *Record) Fields() ([]any, error) {
	w, err := r.Wire()
	if err != nil {
		return nil, err
	}
	out := make([]any, 0, 2*fields)
	for i, value := range w.Values {
		out = append(out, names[i], value)
	}
	return append(out, w.BodyName, string(w.Body)), nil
}

// scratch are the buffers that JSON is written to before its size is known.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// maxScratch is how large a buffer may be to be kept.
const maxScratch = 64 << 10

// Wire returns the record in its wire form.
func (r *Record) Wire() (Wire, error) {
	e := &r.Event
	if err := e.Check(); err != nil {
		return Wire{}, err
	}
	w := Wire{BodyName: FieldRaw, Body: r.Raw, Facts: e.Facts()}
	if e.Raw.Index > 0 {
		w.BodyName, w.Body = FieldItem, r.Item
	}
	pooled := scratch.Get().(*[]byte) //nolint:errcheck // nothing else is put in
	b := appendEvent((*pooled)[:0], e)
	event := len(b)
	b = appendEvidence(b, &r.Evidence)
	evidence := len(b)
	b = e.appendOrderingKey(b)
	key := len(b)
	b = w.Facts.append(b)
	// One piece of memory for all that is made: the fields live and die together.
	made := string(b)
	if cap(b) <= maxScratch {
		*pooled = b
		scratch.Put(pooled)
	}
	w.Values = [...]string{
		atSchema:   Schema,
		atID:       validText(e.ID),
		atType:     validText(string(e.Type)),
		atAccount:  validText(e.Account),
		atOrder:    validText(e.OrderRef()),
		atKey:      validText(made[evidence:key]),
		atFacts:    made[key:],
		atEvent:    made[:event],
		atEvidence: made[event:evidence],
	}
	return w, nil
}

// ParseRecord reads what Fields wrote. It ignores fields it does not know, and
// refuses an unknown schema (ErrSchema) and fields that are missing or contradict
// each other (ErrRecord).
func ParseRecord(fields map[string]string) (Record, error) {
	var in entry
	for name, value := range fields {
		if err := in.set(name, value); err != nil {
			return Record{}, err
		}
	}
	return in.record()
}

// ParseRecordPairs is ParseRecord for field, value, field, value. A field that
// comes twice is refused.
func ParseRecordPairs(pairs []string) (Record, error) {
	if len(pairs)%2 != 0 {
		return Record{}, errOdd
	}
	var in entry
	for i := 0; i < len(pairs); i += 2 {
		if err := in.set(pairs[i], pairs[i+1]); err != nil {
			return Record{}, err
		}
	}
	return in.record()
}

// ParseRecordValues is ParseRecordPairs for values as a Redis client returns them
// from a script, and as Fields does: strings or byte slices.
func ParseRecordValues(pairs []any) (Record, error) {
	if len(pairs)%2 != 0 {
		return Record{}, errOdd
	}
	var in entry
	for i := 0; i < len(pairs); i += 2 {
		name, err := textOf(pairs[i])
		if err != nil {
			return Record{}, err
		}
		value, err := textOf(pairs[i+1])
		if err != nil {
			return Record{}, err
		}
		if err := in.set(name, value); err != nil {
			return Record{}, err
		}
	}
	return in.record()
}

var errOdd = fmt.Errorf("%w: a field without a value", ErrRecord)

func textOf(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case []byte:
		return string(v), nil
	default:
		return "", fmt.Errorf("%w: a field is a %T", ErrRecord, v)
	}
}

// entry holds the fields of one entry while they are read: those of names, and item
// apart from raw.
type entry struct {
	values [atItem + 1]string
	has    [atItem + 1]bool
}

const atItem = fields

func (in *entry) set(name, value string) error {
	at := place(name)
	if at < 0 {
		return nil
	}
	if in.has[at] {
		return fmt.Errorf("%w: field %s comes twice", ErrRecord, name)
	}
	in.values[at], in.has[at] = value, true
	return nil
}

// place is where entry keeps a field; negative for one that it does not know.
func place(name string) int {
	switch name {
	case FieldSchema:
		return atSchema
	case FieldID:
		return atID
	case FieldType:
		return atType
	case FieldAccount:
		return atAccount
	case FieldOrder:
		return atOrder
	case FieldKey:
		return atKey
	case FieldFacts:
		return atFacts
	case FieldEvent:
		return atEvent
	case FieldEvidence:
		return atEvidence
	case FieldRaw:
		return atBody
	case FieldItem:
		return atItem
	default:
		return -1
	}
}

func (in *entry) record() (Record, error) {
	if !in.has[atSchema] {
		return Record{}, fmt.Errorf("%w: field schema is missing", ErrRecord)
	}
	if in.values[atSchema] != Schema {
		return Record{}, ErrSchema
	}
	if !in.has[atEvent] || !in.has[atEvidence] {
		return Record{}, fmt.Errorf("%w: field event or evidence is missing", ErrRecord)
	}
	var r Record
	if err := decodeEvent(in.values[atEvent], &r.Event); err != nil {
		return Record{}, fmt.Errorf("%w: event: %w", ErrRecord, err)
	}
	if err := decodeEvidence(in.values[atEvidence], &r.Evidence); err != nil {
		return Record{}, fmt.Errorf("%w: evidence: %w", ErrRecord, err)
	}
	e := &r.Event
	if e.Schema != Schema {
		return Record{}, fmt.Errorf("%w: in the event", ErrSchema)
	}
	e.timesAsWritten()
	r.Evidence.asWritten()
	if err := e.Check(); err != nil {
		return Record{}, err
	}
	if err := in.agrees(e); err != nil {
		return Record{}, err
	}
	return r, in.body(&r)
}

// agrees refuses flat fields that are missing or say something else than the event.
func (in *entry) agrees(e *Event) error {
	var key [128]byte // on the stack, where most keys have room
	var facts [16]byte
	v := &in.values
	agrees := [...]bool{
		atID:      v[atID] == e.ID,
		atType:    v[atType] == string(e.Type),
		atAccount: v[atAccount] == e.Account,
		atOrder:   v[atOrder] == e.OrderRef(),
		atKey:     v[atKey] == string(e.appendOrderingKey(key[:0])),
		atFacts:   v[atFacts] == string(e.Facts().append(facts[:0])),
	}
	for at := atID; at < len(agrees); at++ {
		if !in.has[at] {
			return fmt.Errorf("%w: field %s is missing", ErrRecord, names[at])
		}
		if !agrees[at] {
			return fmt.Errorf("%w: field %s disagrees with the event", ErrRecord, names[at])
		}
	}
	return nil
}

// body reads raw or item, whichever the event's index asks for.
func (in *entry) body(r *Record) error {
	at, other, to := atBody, atItem, &r.Raw
	if r.Event.Raw.Index > 0 {
		at, other, to = atItem, atBody, &r.Item
	}
	if !in.has[at] || in.has[other] {
		name := FieldRaw
		if at == atItem {
			name = FieldItem
		}
		return fmt.Errorf("%w: an entry with index %d carries the field %s alone", ErrRecord, r.Event.Raw.Index, name)
	}
	if in.values[at] != "" {
		*to = []byte(in.values[at])
	}
	return nil
}

// Bounds of a reference: order, provider and customer references, ids and the
// provider's words for a type. Providers count characters (500 in Stripe's metadata);
// a database counts bytes, and four make a character at most.
const (
	MaxRefCharacters = 512
	MaxRef           = 4 * MaxRefCharacters
)

// CheckRef refuses a text that no database can hold and index as a key.
func CheckRef(ref string) error {
	if len(ref) > MaxRefCharacters && (len(ref) > MaxRef || utf8.RuneCountInString(ref) > MaxRefCharacters) {
		return fmt.Errorf("%w: a reference is longer than %d characters", ErrRecord, MaxRefCharacters)
	}
	if strings.ContainsRune(ref, 0) {
		return fmt.Errorf("%w: a reference holds a NUL", ErrRecord)
	}
	return nil
}

// Check refuses what would make an entry that no reader can use: it is what Wire and
// Fields refuse. An event without a schema is of Schema.
func (e *Event) Check() error {
	switch {
	case e.Schema != Schema && e.Schema != "":
		return fmt.Errorf("%w: in the event", ErrSchema)
	case e.ID == "" || e.Type == "" || e.Account == "":
		return fmt.Errorf("%w: an event needs an id, a type and an account", ErrRecord)
	case e.Raw.Index < 0:
		return fmt.Errorf("%w: negative index", ErrRecord)
	}
	if err := checkRefs(e.ID, e.ConflictOf, e.ProviderEvent.ID, e.ProviderEvent.Type, e.Merchant.Account, e.Merchant.App, e.Merchant.CustomerRef); err != nil {
		return err
	}
	if p := e.Payment; p != nil {
		if err := checkRefs(p.OrderRef, p.ProviderRef, p.ParentRef); err != nil {
			return err
		}
		if err := checkRefs(p.RelatedRefs...); err != nil {
			return err
		}
		if err := checkMoney(p.Amount, p.Captured, p.RefundedTotal); err != nil {
			return err
		}
	}
	if r := e.Refund; r != nil {
		if err := errors.Join(checkRefs(r.OrderRef, r.ProviderRef), checkMoney(r.Amount)); err != nil {
			return err
		}
	}
	if d := e.Dispute; d != nil {
		if err := errors.Join(checkRefs(d.ProviderRef), checkMoney(d.Amount)); err != nil {
			return err
		}
	}
	if e.Stock != nil {
		return CheckRef(e.Stock.SKU)
	}
	return nil
}

func checkRefs(refs ...string) error {
	for _, ref := range refs {
		if err := CheckRef(ref); err != nil {
			return err
		}
	}
	return nil
}

func checkMoney(amounts ...*Money) error {
	for _, m := range amounts {
		if m == nil {
			continue
		}
		if err := m.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrRecord, err)
		}
	}
	return nil
}

// timesAsWritten makes the times what appendEvent writes, whoever wrote them. Only of
// an event that nobody else has yet.
func (e *Event) timesAsWritten() {
	e.OccurredAt, e.ReceivedAt = wireTime(e.OccurredAt), wireTime(e.ReceivedAt)
	if e.Dispute != nil {
		e.Dispute.DueBy = wireTime(e.Dispute.DueBy)
	}
}

// asWritten is timesAsWritten for evidence.
func (v *Evidence) asWritten() {
	v.SignedAt = wireTime(v.SignedAt)
	if len(v.Headers) == 0 {
		v.Headers = nil
	}
}

// wireTime is UTC and whole milliseconds. A time outside the years that RFC 3339
// can write is an unknown time: it must not keep an event from being kept.
func wireTime(t time.Time) time.Time {
	t = t.UTC().Truncate(time.Millisecond)
	if t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}
