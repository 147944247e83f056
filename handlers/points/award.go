package points

import (
	"errors"
	"math/big"

	"github.com/paybell/paybell/streams/event"
)

// ErrOverflow is returned when the points of an order do not fit int64.
var ErrOverflow = errors.New("points: the award does not fit int64")

// award is what money is worth: pure arithmetic on integers.
type award map[string]rule

type rule struct {
	points int64
	per    event.Money
}

func newAward(o Options) (award, error) {
	a := make(award, len(o.Rules))
	var errs []error
	for _, currency := range sortedCurrencies(o.Rules) {
		r, err := o.Rules[currency].parse(currency)
		errs = append(errs, err)
		a[currency] = r
	}
	return a, errors.Join(errs...)
}

// of returns the points for every full "per" of the money. Money may come with
// another exponent than the rule's: both are brought to the sum of the two.
func (a award) of(m event.Money) (int64, error) {
	r, ok := a[m.Currency]
	if !ok || r.points == 0 || m.Minor <= 0 {
		return 0, nil
	}
	units := new(big.Int).Mul(big.NewInt(m.Minor), power(r.per.Exponent))
	units.Quo(units, new(big.Int).Mul(big.NewInt(r.per.Minor), power(m.Exponent)))
	units.Mul(units, big.NewInt(r.points))
	if !units.IsInt64() {
		return 0, ErrOverflow
	}
	return units.Int64(), nil
}

// worth is what a folded order is worth.
func (a award) worth(o *event.Order) (int64, error) {
	var failure error
	points := event.Worth(o, func(captured event.Money) int64 {
		var n int64
		n, failure = a.of(captured)
		return n
	})
	return points, failure
}

func power(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }
