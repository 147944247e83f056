package event

import "errors"

// Errors of money. Their texts never repeat the input.
var (
	// ErrAmountPrecision: the amount has more digits than the currency counts.
	ErrAmountPrecision = errors.New("event: amount_precision")
	// ErrCurrency: not a three letter ISO 4217 code.
	ErrCurrency = errors.New("event: currency is not an ISO 4217 alphabetic code")
	// ErrOverflow: the amount in minor units does not fit int64.
	ErrOverflow = errors.New("event: amount does not fit int64")
	// ErrSyntax: not a plain decimal number.
	ErrSyntax = errors.New("event: amount is not a plain decimal number")
	// ErrExponent: an exponent below 0 or above 18.
	ErrExponent = errors.New("event: exponent out of range")
	// ErrMoneyMismatch: Value and Minor of a Money do not say the same.
	ErrMoneyMismatch = errors.New("event: value and minor disagree")
)

// Errors of the wire form.
var (
	// ErrSchema: a version of the wire form that this code cannot read.
	ErrSchema = errors.New("event: unknown schema")
	// ErrRecord: a record that cannot be written, or fields that are none.
	ErrRecord = errors.New("event: malformed record")
	// ErrFacts: not the text form of a fingerprint.
	ErrFacts = errors.New("event: malformed facts fingerprint")
)

// ErrOrder is returned for text that is no folded order.
var ErrOrder = errors.New("event: malformed order state")
