package event

import (
	"math/big"
)

// Worth is what the order is worth in points: award(captured), less the part of it
// that was refunded or lost to disputes, rounded down. When nothing of the money
// remains it is exactly 0, and it is never below 0. A payment that several orders
// claim counts for one of them (see CountElsewhere). As a pure function of the folded
// order it is the same for any order of arrival.
//
// Award sees the captured money with at least the ISO exponent of its currency; it
// must look at Money.Exponent before it divides Money.Minor.
func Worth(o *Order, award func(captured Money) int64) int64 {
	v := o.view()
	taken := v.worth.back()
	if taken.compare(v.worth.captured) >= 0 {
		return 0
	}
	points := award(v.worth.captured.money(v.currency))
	if points <= 0 || taken.isZero() {
		return max(points, 0)
	}
	back := new(big.Int).Mul(big.NewInt(points), taken.scaled())
	back.Quo(back, v.worth.captured.scaled())
	return points - back.Int64()
}
