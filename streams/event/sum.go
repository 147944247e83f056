package event

import (
	"cmp"
	"math"
	"math/big"
	"math/bits"
)

// sum is a sum of amounts, exact: whole units in 128 bits, and what is behind the point
// in units of 10^-maxExponent. It is never below zero, and no number of amounts that an
// order keeps can overflow it.
type sum struct{ hi, lo, fraction uint64 }

// unit is one whole in units of 10^-maxExponent.
const unit = 1_000_000_000_000_000_000

// powers are the powers of ten up to unit.
var powers = func() (p [maxExponent + 1]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = 10 * p[i-1]
	}
	return p
}()

// sum is the amount as a sum; one below zero counts nothing.
func (a amount) sum() sum {
	if a.unscaled <= 0 {
		return sum{}
	}
	return magnitude(uint64(a.unscaled), a.exponent)
}

func magnitude(n uint64, exponent uint8) sum {
	p := powers[exponent]
	return sum{lo: n / p, fraction: n % p * powers[maxExponent-exponent]}
}

func (s sum) add(t sum) sum {
	var carry uint64
	if s.fraction += t.fraction; s.fraction >= unit {
		s.fraction -= unit
		carry = 1
	}
	s.lo, carry = bits.Add64(s.lo, t.lo, carry)
	s.hi, _ = bits.Add64(s.hi, t.hi, carry)
	return s
}

// less is s less t, and nothing where t is larger.
func (s sum) less(t sum) sum {
	if s.compare(t) <= 0 {
		return sum{}
	}
	var borrow uint64
	if s.fraction < t.fraction {
		s.fraction += unit
		borrow = 1
	}
	s.fraction -= t.fraction
	s.lo, borrow = bits.Sub64(s.lo, t.lo, borrow)
	s.hi, _ = bits.Sub64(s.hi, t.hi, borrow)
	return s
}

func (s sum) compare(t sum) int {
	return cmp.Or(cmp.Compare(s.hi, t.hi), cmp.Compare(s.lo, t.lo), cmp.Compare(s.fraction, t.fraction))
}

func (s sum) isZero() bool { return s == sum{} }

func larger(s, t sum) sum {
	if s.compare(t) >= 0 {
		return s
	}
	return t
}

func smaller(s, t sum) sum {
	if s.compare(t) <= 0 {
		return s
	}
	return t
}

// scaled is the sum in units of 10^-maxExponent.
func (s sum) scaled() *big.Int {
	n := new(big.Int).SetUint64(s.hi)
	n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(s.lo))
	n.Mul(n, big.NewInt(unit))
	return n.Add(n, new(big.Int).SetUint64(s.fraction))
}

// money returns the sum with the currency's ISO exponent, or the smallest larger one
// that keeps it exact. A sum that does not fit int64 becomes the largest amount that does.
func (s sum) money(currency string) Money {
	n, exponent, _ := s.minor(currency)
	var buf [decimalLen]byte
	return Money{
		Value:    string(appendDecimal(buf[:0], n, exponent)),
		Minor:    n,
		Exponent: exponent,
		Currency: currency,
	}
}

// fits reports whether money returns all of the sum.
func (s sum) fits(currency string) bool {
	_, _, fits := s.minor(currency)
	return fits
}

func (s sum) minor(currency string) (n int64, exponent int, fits bool) {
	exponent = Exponent(currency)
	for s.fraction%powers[maxExponent-exponent] != 0 {
		exponent++
	}
	over, minor := bits.Mul64(s.lo, powers[exponent])
	minor, carry := bits.Add64(minor, s.fraction/powers[maxExponent-exponent], 0)
	if s.hi != 0 || over != 0 || carry != 0 || minor > math.MaxInt64 {
		return math.MaxInt64, exponent, false
	}
	return int64(minor), exponent, true
}
