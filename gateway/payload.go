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

func encodePayload(window time.Duration, r *event.Record) ([]byte, error) {
	fields, err := r.Fields()
	if err != nil {
		return nil, err
	}
	size := 1 + 2*binary.MaxVarintLen64
	for _, f := range fields {
		size += binary.MaxVarintLen32 + len(f.(string)) //nolint:errcheck // Fields promises strings
	}
	b := append(make([]byte, 0, size), payloadVersion)
	b = binary.AppendUvarint(b, uint64(max(0, window.Milliseconds())))
	b = binary.AppendUvarint(b, uint64(len(fields)))
	for _, f := range fields {
		text := f.(string) //nolint:errcheck // Fields promises strings
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return b, nil
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
