package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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

// Fields returns the record as field, value, field, value, ready for XADD. Every
// one is a string. The flat fields are for readers without a JSON parser; what
// they say is also in the event.
func (r *Record) Fields() ([]any, error) {
	e := wireEvent(r.Event)
	if err := e.check(); err != nil {
		return nil, err
	}
	event, err := encode(&e)
	if err != nil {
		return nil, fmt.Errorf("%w: event: %w", ErrRecord, err)
	}
	evidence, err := encode(wireEvidence(r.Evidence))
	if err != nil {
		return nil, fmt.Errorf("%w: evidence: %w", ErrRecord, err)
	}
	body, bytes := FieldRaw, r.Raw
	if e.Raw.Index > 0 {
		body, bytes = FieldItem, r.Item
	}
	return []any{
		FieldSchema, Schema,
		FieldID, validText(e.ID),
		FieldType, validText(string(e.Type)),
		FieldAccount, validText(e.Account),
		FieldOrder, validText(e.OrderRef()),
		FieldKey, e.OrderingKey(),
		FieldFacts, e.Facts().String(),
		FieldEvent, event,
		FieldEvidence, evidence,
		body, string(bytes),
	}, nil
}

// ParseRecord reads what Fields wrote. It ignores fields it does not know, and
// refuses an unknown schema (ErrSchema) and fields that are missing or contradict
// each other (ErrRecord).
func ParseRecord(fields map[string]string) (Record, error) {
	var w wire
	for name, value := range fields {
		if err := w.set(name, value); err != nil {
			return Record{}, err
		}
	}
	return w.record()
}

// ParseRecordPairs is ParseRecord for field, value, field, value. A field that
// comes twice is refused.
func ParseRecordPairs(pairs []string) (Record, error) {
	if len(pairs)%2 != 0 {
		return Record{}, fmt.Errorf("%w: a field without a value", ErrRecord)
	}
	var w wire
	for i := 0; i < len(pairs); i += 2 {
		if err := w.set(pairs[i], pairs[i+1]); err != nil {
			return Record{}, err
		}
	}
	return w.record()
}

// ParseRecordValues is ParseRecordPairs for values as a Redis client returns them
// from a script, and as Fields does: strings or byte slices.
func ParseRecordValues(pairs []any) (Record, error) {
	text := make([]string, len(pairs))
	for i, v := range pairs {
		switch v := v.(type) {
		case string:
			text[i] = v
		case []byte:
			text[i] = string(v)
		default:
			return Record{}, fmt.Errorf("%w: a field is a %T", ErrRecord, v)
		}
	}
	return ParseRecordPairs(text)
}

// wire holds the fields of one entry while they are read.
type wire struct {
	schema, id, typ, account, order, key, facts, event, evidence, raw, item *string
}

func (w *wire) set(name, value string) error {
	var at **string
	switch name {
	case FieldSchema:
		at = &w.schema
	case FieldID:
		at = &w.id
	case FieldType:
		at = &w.typ
	case FieldAccount:
		at = &w.account
	case FieldOrder:
		at = &w.order
	case FieldKey:
		at = &w.key
	case FieldFacts:
		at = &w.facts
	case FieldEvent:
		at = &w.event
	case FieldEvidence:
		at = &w.evidence
	case FieldRaw:
		at = &w.raw
	case FieldItem:
		at = &w.item
	default:
		return nil
	}
	if *at != nil {
		return fmt.Errorf("%w: field %s comes twice", ErrRecord, name)
	}
	*at = &value
	return nil
}

func (w *wire) record() (Record, error) {
	if w.schema == nil {
		return Record{}, fmt.Errorf("%w: field schema is missing", ErrRecord)
	}
	if *w.schema != Schema {
		return Record{}, ErrSchema
	}
	if w.event == nil || w.evidence == nil {
		return Record{}, fmt.Errorf("%w: field event or evidence is missing", ErrRecord)
	}
	var r Record
	if err := decode(*w.event, &r.Event); err != nil {
		return Record{}, fmt.Errorf("%w: event: %w", ErrRecord, err)
	}
	if err := decode(*w.evidence, &r.Evidence); err != nil {
		return Record{}, fmt.Errorf("%w: evidence: %w", ErrRecord, err)
	}
	if r.Event.Schema != Schema {
		return Record{}, fmt.Errorf("%w: in the event", ErrSchema)
	}
	r.Event, r.Evidence = wireEvent(r.Event), wireEvidence(r.Evidence)
	e := &r.Event
	if err := e.check(); err != nil {
		return Record{}, err
	}
	for _, flat := range []struct {
		name  string
		value *string
		want  string
	}{
		{FieldID, w.id, e.ID},
		{FieldType, w.typ, string(e.Type)},
		{FieldAccount, w.account, e.Account},
		{FieldOrder, w.order, e.OrderRef()},
		{FieldKey, w.key, e.OrderingKey()},
		{FieldFacts, w.facts, e.Facts().String()},
	} {
		if flat.value == nil {
			return Record{}, fmt.Errorf("%w: field %s is missing", ErrRecord, flat.name)
		}
		if *flat.value != flat.want {
			return Record{}, fmt.Errorf("%w: field %s disagrees with the event", ErrRecord, flat.name)
		}
	}
	return r, w.body(&r)
}

// body reads raw or item, whichever the event's index asks for.
func (w *wire) body(r *Record) error {
	name, here, other, to := FieldRaw, w.raw, w.item, &r.Raw
	if r.Event.Raw.Index > 0 {
		name, here, other, to = FieldItem, w.item, w.raw, &r.Item
	}
	if here == nil || other != nil {
		return fmt.Errorf("%w: an entry with index %d carries the field %s alone", ErrRecord, r.Event.Raw.Index, name)
	}
	if *here != "" {
		*to = []byte(*here)
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

// references are the texts that name something.
func (e *Event) references() []string {
	refs := []string{e.ID, e.ConflictOf, e.ProviderEvent.ID, e.ProviderEvent.Type, e.Merchant.Account, e.Merchant.App, e.Merchant.CustomerRef}
	if p := e.Payment; p != nil {
		refs = append(refs, p.OrderRef, p.ProviderRef, p.ParentRef)
		refs = append(refs, p.RelatedRefs...)
	}
	if r := e.Refund; r != nil {
		refs = append(refs, r.OrderRef, r.ProviderRef)
	}
	if d := e.Dispute; d != nil {
		refs = append(refs, d.ProviderRef)
	}
	if s := e.Stock; s != nil {
		refs = append(refs, s.SKU)
	}
	return refs
}

// check refuses what would make an entry that no reader can use.
func (e *Event) check() error {
	switch {
	case e.Schema != Schema:
		return fmt.Errorf("%w: in the event", ErrSchema)
	case e.ID == "" || e.Type == "" || e.Account == "":
		return fmt.Errorf("%w: an event needs an id, a type and an account", ErrRecord)
	case e.Raw.Index < 0:
		return fmt.Errorf("%w: negative index", ErrRecord)
	}
	for _, ref := range e.references() {
		if err := CheckRef(ref); err != nil {
			return err
		}
	}
	var amounts []*Money
	if p := e.Payment; p != nil {
		amounts = append(amounts, p.Amount, p.Captured, p.RefundedTotal)
	}
	if e.Refund != nil {
		amounts = append(amounts, e.Refund.Amount)
	}
	if e.Dispute != nil {
		amounts = append(amounts, e.Dispute.Amount)
	}
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

// wireEvent returns e with its schema named and its times as they are written.
func wireEvent(e Event) Event {
	if e.Schema == "" {
		e.Schema = Schema
	}
	e.OccurredAt, e.ReceivedAt = wireTime(e.OccurredAt), wireTime(e.ReceivedAt)
	if e.Dispute != nil {
		d := *e.Dispute
		d.DueBy = wireTime(d.DueBy)
		e.Dispute = &d
	}
	return e
}

func wireEvidence(v Evidence) Evidence {
	v.SignedAt = wireTime(v.SignedAt)
	if len(v.Headers) == 0 {
		v.Headers = nil
	}
	return v
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

// encode writes JSON without escaping for HTML, which is of no use here.
func encode(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// decode reads JSON. An error about a time would repeat the text that is none.
func decode(text string, v any) error {
	err := json.Unmarshal([]byte(text), v)
	if _, isTime := errors.AsType[*time.ParseError](err); isTime {
		return errors.New("a time is not RFC 3339")
	}
	return err
}
