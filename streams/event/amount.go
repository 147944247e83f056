package event

import (
	"cmp"
	"strings"
)

// amount is an exact decimal in its shortest form: unscaled × 10^-exponent, with no
// zero behind the point. One sum of money has one such form, whatever exponent the
// provider counts in, so amounts of accounts that count differently can be added.
type amount struct {
	unscaled int64
	exponent uint8
}

func amountOf(m Money) amount {
	a := amount{m.Minor, uint8(m.Exponent)} //nolint:gosec // An exponent is at most 18.
	for a.exponent > 0 && a.unscaled%10 == 0 {
		a.unscaled /= 10
		a.exponent--
	}
	return a
}

// String is the shortest decimal text.
func (a amount) String() string {
	var buf [decimalLen]byte
	return string(appendDecimal(buf[:0], a.unscaled, int(a.exponent)))
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *amount) UnmarshalText(text []byte) error {
	_, fraction, _ := strings.Cut(string(text), ".")
	if len(fraction) > maxExponent {
		return ErrAmountPrecision
	}
	n, err := scan(string(text), len(fraction))
	if err != nil {
		return err
	}
	*a = amountOf(Money{Minor: n, Exponent: len(fraction)})
	return nil
}

// compare orders amounts by what they are worth.
func (a amount) compare(b amount) int {
	switch {
	case a.exponent == b.exponent:
		return cmp.Compare(a.unscaled, b.unscaled)
	case a.unscaled < 0 && b.unscaled < 0:
		return magnitude(-uint64(b.unscaled), b.exponent).compare(magnitude(-uint64(a.unscaled), a.exponent)) //nolint:gosec // Two's complement.
	case a.unscaled < 0 || b.unscaled < 0:
		return cmp.Compare(a.unscaled, b.unscaled)
	default:
		return a.sum().compare(b.sum())
	}
}
