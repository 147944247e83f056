package provider

import (
	"strconv"
	"time"
)

// maxTimestampDigits keeps every accepted text far inside int64.
const maxTimestampDigits = 12

// Window accepts signed times that are near enough to now, on both sides: a
// callback from the future is as suspicious as an old one, because whoever can
// date it forward can keep it for later.
type Window struct {
	// Tolerance is the greatest accepted distance, inclusive.
	Tolerance time.Duration
	Now       func() time.Time
}

// Check reads a Unix time in seconds from the text that was signed and tells
// whether it is inside the window. The text must be 1 to 12 decimal digits and
// nothing else, so that it and the number read from it are one to one for every
// sender that exists; callers sign the text itself, never a number printed again.
func (w Window) Check(text string) (time.Time, error) {
	seconds, err := ParseTimestamp(text)
	if err != nil {
		return time.Time{}, err
	}
	signed := time.Unix(seconds, 0).UTC()
	return signed, w.CheckTime(signed)
}

// CheckTime tells whether a time that was read elsewhere is inside the window.
func (w Window) CheckTime(signed time.Time) error {
	switch age := w.Now().Sub(signed); {
	case age > w.Tolerance:
		return Refuse(ReasonStale, "signed %s ago, tolerance is %s", age.Truncate(time.Second), w.Tolerance)
	case age < -w.Tolerance:
		return Refuse(ReasonFuture, "signed %s ahead of now, tolerance is %s", (-age).Truncate(time.Second), w.Tolerance)
	default:
		return nil
	}
}

// ParseTimestamp reads 1 to 12 decimal digits. Signs, spaces, fractions and
// exponents, which strconv and others forgive, are refused.
func ParseTimestamp(text string) (int64, error) {
	if len(text) == 0 || len(text) > maxTimestampDigits {
		return 0, Refuse(ReasonMalformedSignature, "timestamp is not 1 to %d digits", maxTimestampDigits)
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, Refuse(ReasonMalformedSignature, "timestamp is not 1 to %d digits", maxTimestampDigits)
		}
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, Refuse(ReasonMalformedSignature, "timestamp is not a number")
	}
	return seconds, nil
}
