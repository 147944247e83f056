package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/paybell/paybell/streams/event"
)

// A payload is what the journal keeps of one record: a version, the dedup window in
// milliseconds, and the record's wire form, which golden files freeze; every number
// is a uvarint. A journal outlives the binary that wrote it: a version that is not
// known is set aside, not guessed at.
//
//	1  window  count  (length bytes) × count
const payloadVersion = 1

// errPayload: a payload that no version of ours wrote, or a later one did.
var errPayload = errors.New("gateway: unreadable journal payload")

// payloadFields are the names of event.Wire.Values, in their order.
var payloadFields = [len(event.Wire{}.Values)]string{
	event.FieldSchema, event.FieldID, event.FieldType, event.FieldAccount, event.FieldOrder,
	event.FieldKey, event.FieldFacts, event.FieldEvent, event.FieldEvidence,
}

// encodePayload copies the body once: many are encoded at the same time when Redis is
// gone.
func encodePayload(window time.Duration, r *event.Record) ([]byte, error) {
	w, err := r.Wire()
	if err != nil {
		return nil, err
	}
	size := 1 + 2*binary.MaxVarintLen64 + 2*binary.MaxVarintLen32 + len(w.BodyName) + len(w.Body)
	for i, name := range payloadFields {
		size += 2*binary.MaxVarintLen32 + len(name) + len(w.Values[i])
	}
	b := append(make([]byte, 0, size), payloadVersion)
	b = binary.AppendUvarint(b, uint64(max(0, window.Milliseconds())))
	b = binary.AppendUvarint(b, uint64(2*len(payloadFields)+2))
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	for i, name := range payloadFields {
		text(name)
		text(w.Values[i])
	}
	text(w.BodyName)
	return append(binary.AppendUvarint(b, uint64(len(w.Body))), w.Body...), nil
}

func decodePayload(b []byte) (time.Duration, event.Record, error) {
	window, fields, err := splitPayload(b)
	if err != nil {
		return 0, event.Record{}, err
	}
	r, err := event.ParseRecordPairs(fields)
	if err != nil {
		return 0, event.Record{}, fmt.Errorf("%w: %w", errPayload, err)
	}
	return window, r, nil
}

// payloadKey is the ordering key in a payload, without reading the rest of it.
func payloadKey(b []byte) (string, bool) {
	_, fields, err := splitPayload(b)
	if err != nil {
		return "", false
	}
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == event.FieldKey {
			return fields[i+1], true
		}
	}
	return "", false
}

// splitPayload takes a payload apart.
func splitPayload(b []byte) (window time.Duration, fields []string, err error) {
	if len(b) == 0 || b[0] != payloadVersion {
		return 0, nil, fmt.Errorf("%w: unknown version", errPayload)
	}
	b = b[1:]
	number := func() (uint64, bool) {
		n, used := binary.Uvarint(b)
		if used <= 0 {
			return 0, false
		}
		b = b[used:]
		return n, true
	}
	ms, ok1 := number()
	count, ok2 := number()
	const longest = uint64(1<<63-1) / uint64(time.Millisecond)
	if !ok1 || !ok2 || ms > longest || count > uint64(len(b)) {
		return 0, nil, errPayload
	}
	fields = make([]string, 0, count)
	for range count {
		n, ok := number()
		if !ok || n > uint64(len(b)) {
			return 0, nil, errPayload
		}
		fields = append(fields, string(b[:n]))
		b = b[n:]
	}
	if len(b) > 0 {
		return 0, nil, errPayload
	}
	return time.Duration(ms) * time.Millisecond, fields, nil
}
