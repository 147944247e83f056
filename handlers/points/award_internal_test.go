package points

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/paybell/paybell/streams/event"
)

func TestAward(t *testing.T) {
	a, err := newAward(Options{Rules: map[string]Rule{
		"CNY": {Points: 1, Per: "1.00"},
		"USD": {Points: 15, Per: "10.50"},
		"JPY": {Points: 1, Per: "100"},
		"KWD": {Points: 2, Per: "0.005"},
		"EUR": {Points: 0, Per: "1.00"},
		"XOF": {Points: math.MaxInt64, Per: "1"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		money event.Money
		want  int64
		err   error
	}{
		"whole units":             {event.Money{Minor: 8800, Exponent: 2, Currency: "CNY"}, 88, nil},
		"rest earns nothing":      {event.Money{Minor: 8899, Exponent: 2, Currency: "CNY"}, 88, nil},
		"below one unit":          {event.Money{Minor: 99, Exponent: 2, Currency: "CNY"}, 0, nil},
		"odd unit":                {event.Money{Minor: 2100, Exponent: 2, Currency: "USD"}, 30, nil},
		"just short of two":       {event.Money{Minor: 2099, Exponent: 2, Currency: "USD"}, 15, nil},
		"no decimals":             {event.Money{Minor: 250, Exponent: 0, Currency: "JPY"}, 2, nil},
		"three decimals":          {event.Money{Minor: 11, Exponent: 3, Currency: "KWD"}, 4, nil},
		"finer than the rule's":   {event.Money{Minor: 88_0001, Exponent: 4, Currency: "CNY"}, 88, nil},
		"coarser than the rule's": {event.Money{Minor: 88, Exponent: 0, Currency: "CNY"}, 88, nil},
		"rule of nothing":         {event.Money{Minor: 8800, Exponent: 2, Currency: "EUR"}, 0, nil},
		"no rule":                 {event.Money{Minor: 8800, Exponent: 2, Currency: "GBP"}, 0, nil},
		"negative":                {event.Money{Minor: -8800, Exponent: 2, Currency: "CNY"}, 0, nil},
		"largest amount":          {event.Money{Minor: math.MaxInt64, Exponent: 2, Currency: "CNY"}, math.MaxInt64 / 100, nil},
		"too many points":         {event.Money{Minor: 2, Exponent: 0, Currency: "XOF"}, 0, ErrOverflow},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := a.of(c.money)
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("award = %d, %v, want %d, %v", got, err, c.want, c.err)
			}
		})
	}
}

func TestOptionsValidate(t *testing.T) {
	if err := DefaultOptions().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	for name, c := range map[string]struct {
		rules map[string]Rule
		want  string
	}{
		"negative points":  {map[string]Rule{"CNY": {-1, "1.00"}}, "rules.CNY.points: "},
		"no amount":        {map[string]Rule{"CNY": {1, ""}}, "rules.CNY.per: "},
		"zero amount":      {map[string]Rule{"CNY": {1, "0.00"}}, "rules.CNY.per: "},
		"too precise":      {map[string]Rule{"JPY": {1, "0.5"}}, "rules.JPY.per: "},
		"not a currency":   {map[string]Rule{"yuan": {1, "1"}}, "rules.yuan.per: "},
		"several at once":  {map[string]Rule{"CNY": {1, "x"}, "USD": {1, "y"}}, "rules.USD.per: "},
		"exponent as text": {map[string]Rule{"CNY": {1, "1e3"}}, "rules.CNY.per: "},
	} {
		t.Run(name, func(t *testing.T) {
			if err := (Options{Rules: c.rules}).Validate(); err == nil || !strings.Contains("\n"+err.Error(), "\n"+c.want) {
				t.Errorf("Validate = %v, want a line beginning with %q", err, c.want)
			}
		})
	}
}
