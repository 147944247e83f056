package event

import (
	"math/big"
)

// Worth is what the order is worth in points: award(captured), less the part of it
// that was refunded, rounded down; 0 when it is charged back, or when nothing was
// captured. A full refund leaves exactly 0 and it is never below 0. As a pure
// function of the folded order it is the same for any order of arrival.
//
// Award sees the captured money with at least the ISO exponent of its currency; it
// must look at Money.Exponent before it divides Money.Minor.
func Worth(o *Order, award func(captured Money) int64) int64 {
	f := o.s.figures()
	if f.captured.Sign() <= 0 {
		return 0
	}
	if lost, _ := o.s.disputes(f); lost {
		return 0
	}
	captured, _ := moneyOf(f.captured, f.currency)
	points := award(captured)
	if points <= 0 || f.refunded.Cmp(f.captured) >= 0 {
		return 0
	}
	back := new(big.Int).Mul(big.NewInt(points), f.refunded)
	back.Quo(back, f.captured)
	return points - back.Int64()
}
