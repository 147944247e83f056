package stripe

import (
	"fmt"
	"strings"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// exponents are the currencies whose smallest unit at Stripe is not ISO 4217's
// (docs.stripe.com/currencies, "Special cases" and "Zero-decimal currencies").
// Amounts keep the unit they were told in; the fold compares across units.
var exponents = map[string]int{
	// Zero-decimal in truth, sent with two decimals that are always 00.
	"ISK": 2,
	"UGX": 2,
	// ISO counts fifths as two decimals; Stripe charges whole ariary.
	"MGA": 0,
}

func exponent(currency string) int {
	if e, ok := exponents[currency]; ok {
		return e
	}
	return event.Exponent(currency)
}

// money reads an amount and its currency beside it. Neither there means nil; one
// without the other, or anything but an integer, is malformed.
func money(amount, currency provider.Value) (*event.Money, error) {
	if amount.Kind() <= provider.Null {
		return nil, nil
	}
	minor, ok := amount.Int64()
	if !ok {
		return nil, fmt.Errorf("%w: amount is not an integer", provider.ErrMalformed)
	}
	return moneyOf(minor, currency)
}

func moneyOf(minor int64, currency provider.Value) (*event.Money, error) {
	code, ok := currency.Text()
	if !ok {
		return nil, fmt.Errorf("%w: amount without a currency", provider.ErrMalformed)
	}
	code, err := event.CurrencyCode(code)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", provider.ErrMalformed, err)
	}
	m, err := event.FromMinorExp(minor, exponent(code), code)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", provider.ErrMalformed, err)
	}
	return &m, nil
}

// wire is money the other way round, for the signer.
func wire(m event.Money) (minor int64, currency string, err error) {
	exact, err := event.ParseDecimalExp(m.Value, exponent(m.Currency), m.Currency)
	if err != nil {
		return 0, "", fmt.Errorf("%w: %w", provider.ErrNoSample, err)
	}
	return exact.Minor, strings.ToLower(exact.Currency), nil
}
