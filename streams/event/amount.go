package event

import (
	"cmp"
	"math"
	"math/big"
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

// MarshalText implements encoding.TextMarshaler.
func (a amount) MarshalText() ([]byte, error) {
	return appendDecimal(nil, a.unscaled, int(a.exponent)), nil
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
	if a.exponent == b.exponent {
		return cmp.Compare(a.unscaled, b.unscaled)
	}
	return a.scaled().Cmp(b.scaled())
}

// scaled is the amount in units of 10^-maxExponent, in which every amount is an
// integer. Sums are made there, so that no order of adding can overflow.
func (a amount) scaled() *big.Int {
	n := big.NewInt(a.unscaled)
	return n.Mul(n, pow10(maxExponent-int(a.exponent)))
}

// moneyOf returns a scaled sum as Money with the currency's ISO exponent, or the
// smallest larger one that keeps it exact. A sum that does not fit int64 becomes
// the largest amount that does, and fits is false.
func moneyOf(sum *big.Int, currency string) (m Money, fits bool) {
	exponent := Exponent(currency)
	minor, rest := new(big.Int), new(big.Int)
	for {
		minor.QuoRem(sum, pow10(maxExponent-exponent), rest)
		if rest.Sign() == 0 {
			break
		}
		exponent++
	}
	n := int64(math.MaxInt64)
	if fits = minor.IsInt64(); fits {
		n = minor.Int64()
	}
	var buf [decimalLen]byte
	return Money{
		Value:    string(appendDecimal(buf[:0], n, exponent)),
		Minor:    n,
		Exponent: exponent,
		Currency: currency,
	}, fits
}

func pow10(n int) *big.Int {
	p := int64(1)
	for range n {
		p *= 10
	}
	return big.NewInt(p)
}
