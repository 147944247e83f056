package event

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Money is an exact amount. Value and Minor say the same: Minor = Value × 10^Exponent.
type Money struct {
	// Value is decimal text with exactly Exponent digits after the point.
	Value string `json:"value"`
	// Minor is the amount in minor units.
	Minor    int64 `json:"minor"`
	Exponent int   `json:"exponent"`
	// Currency is an upper-case ISO 4217 alphabetic code.
	Currency string `json:"currency"`
}

// maxExponent is the largest exponent whose power of ten fits int64.
const maxExponent = 18

// Exponent is the number of decimal digits that ISO 4217 gives an upper-case
// currency. Providers that count otherwise use the constructors ending in Exp.
func Exponent(currency string) int {
	switch currency {
	case "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV",
		"XAF", "XOF", "XPF":
		return 0
	case "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND":
		return 3
	case "CLF", "UYW":
		return 4
	default:
		return 2
	}
}

// CurrencyCode returns an ISO 4217 alphabetic code in upper case: three ASCII letters,
// and ErrCurrency for everything else.
func CurrencyCode(code string) (string, error) { return currencyCode(code) }

// FromMinor makes Money of an integer in the ISO minor unit of the currency.
// The currency may be in lower case.
func FromMinor(minor int64, currency string) (Money, error) {
	code, err := currencyCode(currency)
	if err != nil {
		return Money{}, err
	}
	return fromMinor(minor, Exponent(code), code)
}

// FromMinorExp is FromMinor for a provider whose minor unit has its own exponent.
func FromMinorExp(minor int64, exponent int, currency string) (Money, error) {
	code, err := currencyCode(currency)
	if err != nil {
		return Money{}, err
	}
	return fromMinor(minor, exponent, code)
}

// ParseDecimal reads an amount in major units: digits, optionally a minus before
// them and a point and digits behind them. Zeros may exceed the currency's
// exponent; any other digit there is ErrAmountPrecision, never rounded.
func ParseDecimal(text, currency string) (Money, error) {
	code, err := currencyCode(currency)
	if err != nil {
		return Money{}, err
	}
	return parseDecimal(text, Exponent(code), code)
}

// ParseDecimalExp is ParseDecimal for a provider that deviates from ISO.
func ParseDecimalExp(text string, exponent int, currency string) (Money, error) {
	code, err := currencyCode(currency)
	if err != nil {
		return Money{}, err
	}
	return parseDecimal(text, exponent, code)
}

// ParseMinor reads an integer in the ISO minor unit, sent as text.
func ParseMinor(text, currency string) (Money, error) {
	code, err := currencyCode(currency)
	if err != nil {
		return Money{}, err
	}
	return parseMinor(text, Exponent(code), code)
}

// ParseMinorExp is ParseMinor for a provider whose minor unit has its own exponent.
func ParseMinorExp(text string, exponent int, currency string) (Money, error) {
	code, err := currencyCode(currency)
	if err != nil {
		return Money{}, err
	}
	return parseMinor(text, exponent, code)
}

// Validate reports whether the parts of m agree: a known form of currency, an
// exponent in range and a Value that is the canonical text of Minor.
func (m Money) Validate() error {
	code, err := currencyCode(m.Currency)
	if err != nil {
		return err
	}
	if code != m.Currency {
		return fmt.Errorf("%w: not in upper case", ErrCurrency)
	}
	if m.Exponent < 0 || m.Exponent > maxExponent {
		return ErrExponent
	}
	var buf [decimalLen]byte
	if string(appendDecimal(buf[:0], m.Minor, m.Exponent)) != m.Value {
		return ErrMoneyMismatch
	}
	return nil
}

// IsZero reports whether m is the zero Money: no amount at all, not even of 0.
func (m Money) IsZero() bool { return m == Money{} }

// String is the amount as people write it: "88.00 CNY".
func (m Money) String() string { return m.Value + " " + m.Currency }

func fromMinor(minor int64, exponent int, code string) (Money, error) {
	if exponent < 0 || exponent > maxExponent {
		return Money{}, ErrExponent
	}
	var buf [decimalLen]byte
	return Money{
		Value:    string(appendDecimal(buf[:0], minor, exponent)),
		Minor:    minor,
		Exponent: exponent,
		Currency: code,
	}, nil
}

func parseMinor(text string, exponent int, code string) (Money, error) {
	// A point in minor units would mean that the provider now counts otherwise:
	// reading "88.00" as 88 minor units would be wrong a hundredfold.
	if strings.IndexByte(text, '.') >= 0 {
		return Money{}, ErrSyntax
	}
	minor, err := scan(text, 0)
	if err != nil {
		return Money{}, err
	}
	return fromMinor(minor, exponent, code)
}

func parseDecimal(text string, exponent int, code string) (Money, error) {
	if exponent < 0 || exponent > maxExponent {
		return Money{}, ErrExponent
	}
	minor, err := scan(text, exponent)
	if err != nil {
		return Money{}, err
	}
	return fromMinor(minor, exponent, code)
}

// scan reads decimal text as an integer of 10^-exponent. With exponent 0 it
// still accepts a fraction of zeros ("100.00" yen), as providers send them. The
// errors do not repeat the text: it comes from outside.
func scan(text string, exponent int) (int64, error) {
	digits, negative := text, false
	if digits != "" && digits[0] == '-' {
		digits, negative = digits[1:], true
	}
	limit := uint64(math.MaxInt64)
	if negative {
		limit++
	}
	var n uint64
	fraction := -1 // digits seen after the point; -1 before it
	whole := 0
	precise, fits := true, true
	push := func(d uint64) {
		if n > (limit-d)/10 {
			fits = false
			return
		}
		n = n*10 + d
	}
	for i := range len(digits) {
		c := digits[i]
		switch {
		case c == '.' && fraction < 0 && whole > 0:
			fraction = 0
		case c < '0' || c > '9':
			return 0, ErrSyntax
		case fraction < 0:
			whole++
			push(uint64(c - '0'))
		default:
			fraction++
			if fraction <= exponent {
				push(uint64(c - '0'))
			} else if c != '0' {
				precise = false
			}
		}
	}
	if whole == 0 || fraction == 0 {
		return 0, ErrSyntax
	}
	if !precise {
		return 0, fmt.Errorf("%w: more than %d decimal digits", ErrAmountPrecision, exponent)
	}
	for range exponent - max(fraction, 0) {
		push(0)
	}
	if !fits {
		return 0, ErrOverflow
	}
	if negative {
		return int64(-n), nil //nolint:gosec // Two's complement: right for the smallest int64 too.
	}
	return int64(n), nil
}

// decimalLen holds the longest canonical text: sign, 19 digits and a point.
const decimalLen = 24

// appendDecimal appends the canonical text of minor × 10^-exponent.
func appendDecimal(dst []byte, minor int64, exponent int) []byte {
	magnitude := uint64(minor) //nolint:gosec // Negated below where it wraps.
	if minor < 0 {
		dst = append(dst, '-')
		magnitude = -magnitude
	}
	var buf [decimalLen]byte
	digits := strconv.AppendUint(buf[:0], magnitude, 10)
	if exponent == 0 {
		return append(dst, digits...)
	}
	if whole := len(digits) - exponent; whole > 0 {
		dst = append(dst, digits[:whole]...)
		dst = append(dst, '.')
		return append(dst, digits[whole:]...)
	}
	dst = append(dst, '0', '.')
	for range exponent - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// currencyCode returns the code in upper case, or ErrCurrency.
func currencyCode(code string) (string, error) {
	if len(code) != 3 {
		return "", ErrCurrency
	}
	upper := [3]byte{code[0], code[1], code[2]}
	changed := false
	for i, c := range upper {
		switch {
		case c >= 'A' && c <= 'Z':
		case c >= 'a' && c <= 'z':
			upper[i], changed = c-'a'+'A', true
		default:
			return "", ErrCurrency
		}
	}
	if !changed {
		return code, nil
	}
	return string(upper[:]), nil
}
