package event

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// TestSumsAreExact compares with math/big, also where a sum fits no int64.
func TestSumsAreExact(t *testing.T) {
	amounts := rapid.Custom(func(t *rapid.T) amount {
		n := rapid.OneOf(rapid.Int64Range(0, 10), rapid.Int64Min(0), rapid.Int64Range(math.MaxInt64-5, math.MaxInt64)).Draw(t, "unscaled")
		return amountOf(Money{Minor: n, Exponent: rapid.IntRange(0, maxExponent).Draw(t, "exponent")})
	})
	exact := func(a amount) *big.Int {
		return new(big.Int).Mul(big.NewInt(a.unscaled), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(maxExponent-a.exponent)), nil))
	}
	total := func(as []amount) (sum, *big.Int) {
		var s sum
		n := new(big.Int)
		for _, a := range as {
			s = s.add(a.sum())
			n.Add(n, exact(a))
		}
		return s, n
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SliceOfN(amounts, 0, 40).Draw(t, "a"), rapid.SliceOfN(amounts, 0, 40).Draw(t, "b")
		s, m := total(a)
		u, n := total(b)
		if s.scaled().Cmp(m) != 0 || u.scaled().Cmp(n) != 0 {
			t.Fatalf("sums %s and %s, want %s and %s", s.scaled(), u.scaled(), m, n)
		}
		if s.compare(u) != m.Cmp(n) || s.isZero() != (m.Sign() == 0) {
			t.Fatalf("%s and %s compare as %d", m, n, s.compare(u))
		}
		want := new(big.Int).Sub(m, n)
		if want.Sign() < 0 {
			want.SetInt64(0)
		}
		if got := s.less(u).scaled(); got.Cmp(want) != 0 {
			t.Fatalf("%s less %s is %s, want %s", m, n, got, want)
		}
		shown, fits := s.money("CNY"), s.fits("CNY")
		back := new(big.Int).Mul(big.NewInt(shown.Minor), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(maxExponent-shown.Exponent)), nil))
		if fits != (back.Cmp(m) == 0) || !fits && shown.Minor != math.MaxInt64 || shown.Validate() != nil {
			t.Fatalf("%s is shown as %s, fits %v", m, shown, fits)
		}
	})
}
