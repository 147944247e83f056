package points

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/paybell/paybell/streams/event"
)

// Options say what captured money is worth.
type Options struct {
	// Rules maps a currency (ISO 4217, upper case) to its rule. Money in a currency
	// without a rule earns nothing. After a change an order is worth what the new
	// rules say from its next event on; until then its points stay as they are.
	Rules map[string]Rule `yaml:"rules"`
}

// Rule is the rule of one currency.
type Rule struct {
	// Points are earned for every full Per; 0 earns nothing.
	Points int64 `yaml:"points"`
	// Per is an amount as decimal text, such as "1.00". What is left over a multiple
	// of it earns nothing.
	Per string `yaml:"per"`
}

// DefaultOptions earns one point for every full unit of a few currencies.
func DefaultOptions() Options {
	one := Rule{Points: 1, Per: "1.00"}
	return Options{Rules: map[string]Rule{"CNY": one, "EUR": one, "USD": one}}
}

// Validate reports every problem.
func (o Options) Validate() error {
	_, err := newAward(o)
	return err
}

func (r Rule) parse(currency string) (rule, error) {
	var errs []error
	if r.Points < 0 {
		errs = append(errs, fmt.Errorf("rules.%s.points: must not be negative", currency))
	}
	per, err := event.ParseDecimal(r.Per, currency)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("rules.%s.per: %w", currency, err))
	case per.Minor <= 0:
		errs = append(errs, fmt.Errorf("rules.%s.per: must be above zero", currency))
	}
	return rule{r.Points, per}, errors.Join(errs...)
}

func sortedCurrencies(rules map[string]Rule) []string { return slices.Sorted(maps.Keys(rules)) }
