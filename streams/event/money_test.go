package event_test

import (
	"errors"
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/paybell/paybell/streams/event"
)

func TestParseDecimal(t *testing.T) {
	for _, tc := range []struct {
		name, text, currency, value string
		minor                       int64
		err                         error
	}{
		{name: "two decimals", text: "88.00", currency: "CNY", value: "88.00", minor: 8800},
		{name: "lower case currency", text: "0.1", currency: "cny", value: "0.10", minor: 10},
		{name: "no point", text: "12", currency: "EUR", value: "12.00", minor: 1200},
		{name: "zero", text: "0", currency: "EUR", value: "0.00", minor: 0},
		{name: "minus zero is zero", text: "-0.00", currency: "EUR", value: "0.00", minor: 0},
		{name: "negative below one", text: "-0.05", currency: "EUR", value: "-0.05", minor: -5},
		{name: "no decimals", text: "1500", currency: "JPY", value: "1500", minor: 1500},
		{name: "zeros beyond the exponent", text: "1500.00", currency: "JPY", value: "1500", minor: 1500},
		{name: "three decimals", text: "1.234", currency: "KWD", value: "1.234", minor: 1234},
		{name: "four decimals", text: "1.2345", currency: "CLF", value: "1.2345", minor: 12345},
		{name: "leading zeros", text: "007.50", currency: "USD", value: "7.50", minor: 750},
		{name: "largest", text: "92233720368547758.07", currency: "USD", value: "92233720368547758.07", minor: math.MaxInt64},
		{name: "smallest", text: "-92233720368547758.08", currency: "USD", value: "-92233720368547758.08", minor: math.MinInt64},
		{name: "one too many", text: "92233720368547758.08", currency: "USD", err: event.ErrOverflow},
		{name: "one too few", text: "-92233720368547758.09", currency: "USD", err: event.ErrOverflow},
		{name: "overflow by the exponent", text: "92233720368547759", currency: "USD", err: event.ErrOverflow},
		{name: "endless", text: strings.Repeat("9", 400), currency: "USD", err: event.ErrOverflow},
		{name: "a digit too precise", text: "0.001", currency: "CNY", err: event.ErrAmountPrecision},
		{name: "a fraction of a yen", text: "100.5", currency: "JPY", err: event.ErrAmountPrecision},
		{name: "precise behind zeros", text: "1.0001", currency: "KWD", err: event.ErrAmountPrecision},
		{name: "empty", text: "", currency: "CNY", err: event.ErrSyntax},
		{name: "minus alone", text: "-", currency: "CNY", err: event.ErrSyntax},
		{name: "plus", text: "+1", currency: "CNY", err: event.ErrSyntax},
		{name: "point first", text: ".5", currency: "CNY", err: event.ErrSyntax},
		{name: "point last", text: "5.", currency: "CNY", err: event.ErrSyntax},
		{name: "two points", text: "1.2.3", currency: "CNY", err: event.ErrSyntax},
		{name: "exponent notation", text: "1e2", currency: "CNY", err: event.ErrSyntax},
		{name: "thousands", text: "1,000.00", currency: "CNY", err: event.ErrSyntax},
		{name: "space", text: " 1", currency: "CNY", err: event.ErrSyntax},
		{name: "hexadecimal", text: "0x10", currency: "CNY", err: event.ErrSyntax},
		{name: "not ASCII", text: "１", currency: "CNY", err: event.ErrSyntax},
		{name: "no currency", text: "1", currency: "", err: event.ErrCurrency},
		{name: "numeric currency", text: "1", currency: "156", err: event.ErrCurrency},
		{name: "long currency", text: "1", currency: "USDC", err: event.ErrCurrency},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := event.ParseDecimal(tc.text, tc.currency)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil {
				if m != (event.Money{}) {
					t.Errorf("money %+v beside an error", m)
				}
				return
			}
			if m.Value != tc.value || m.Minor != tc.minor || m.Currency != strings.ToUpper(tc.currency) {
				t.Errorf("%+v, want value %s, minor %d", m, tc.value, tc.minor)
			}
			if err := m.Validate(); err != nil {
				t.Errorf("%+v: %v", m, err)
			}
		})
	}
}

func TestPrecisionErrorNamesItself(t *testing.T) {
	_, err := event.ParseDecimal("1.234", "USD")
	if err == nil || !strings.Contains(err.Error(), "amount_precision") {
		t.Errorf("error %v does not say amount_precision", err)
	}
	if err != nil && strings.Contains(err.Error(), "1.234") {
		t.Errorf("error %v repeats what came from outside", err)
	}
}

func TestProviderExponents(t *testing.T) {
	for _, tc := range []struct {
		name  string
		make  func() (event.Money, error)
		value string
		minor int64
		exp   int
		err   error
	}{
		{"króna with two decimals", func() (event.Money, error) { return event.FromMinorExp(50000, 2, "isk") }, "500.00", 50000, 2, nil},
		{"króna by ISO", func() (event.Money, error) { return event.FromMinor(500, "ISK") }, "500", 500, 0, nil},
		{"decimal with its own exponent", func() (event.Money, error) { return event.ParseDecimalExp("500", 2, "ISK") }, "500.00", 50000, 2, nil},
		{"minor as text", func() (event.Money, error) { return event.ParseMinor("8800", "CNY") }, "88.00", 8800, 2, nil},
		{"negative minor as text", func() (event.Money, error) { return event.ParseMinor("-5", "CNY") }, "-0.05", -5, 2, nil},
		{"minor as text, own exponent", func() (event.Money, error) { return event.ParseMinorExp("5000", 0, "IDR") }, "5000", 5000, 0, nil},
		{"minor with a point", func() (event.Money, error) { return event.ParseMinor("88.00", "CNY") }, "", 0, 0, event.ErrSyntax},
		{"minor too large", func() (event.Money, error) { return event.ParseMinor("9223372036854775808", "CNY") }, "", 0, 0, event.ErrOverflow},
		{"largest exponent", func() (event.Money, error) { return event.FromMinorExp(1, 18, "USD") }, "0.000000000000000001", 1, 18, nil},
		{"exponent too large", func() (event.Money, error) { return event.FromMinorExp(1, 19, "USD") }, "", 0, 0, event.ErrExponent},
		{"negative exponent", func() (event.Money, error) { return event.ParseDecimalExp("1", -1, "USD") }, "", 0, 0, event.ErrExponent},
		{"negative exponent of minor text", func() (event.Money, error) { return event.ParseMinorExp("1", -1, "USD") }, "", 0, 0, event.ErrExponent},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := tc.make()
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if m.Value != tc.value || m.Minor != tc.minor || m.Exponent != tc.exp {
				t.Errorf("%+v, want %s, %d, %d", m, tc.value, tc.minor, tc.exp)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name string
		m    event.Money
		err  error
	}{
		{"agrees", event.Money{Value: "1.00", Minor: 100, Exponent: 2, Currency: "USD"}, nil},
		{"differs", event.Money{Value: "1.00", Minor: 10, Exponent: 2, Currency: "USD"}, event.ErrMoneyMismatch},
		{"too few digits", event.Money{Value: "1.0", Minor: 100, Exponent: 2, Currency: "USD"}, event.ErrMoneyMismatch},
		{"minus zero", event.Money{Value: "-0.00", Minor: 0, Exponent: 2, Currency: "USD"}, event.ErrMoneyMismatch},
		{"no value", event.Money{Minor: 100, Exponent: 2, Currency: "USD"}, event.ErrMoneyMismatch},
		{"lower case", event.Money{Value: "1.00", Minor: 100, Exponent: 2, Currency: "usd"}, event.ErrCurrency},
		{"zero", event.Money{}, event.ErrCurrency},
		{"exponent", event.Money{Value: "1", Minor: 1, Exponent: -1, Currency: "USD"}, event.ErrExponent},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.m.Validate(); !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
		})
	}
}

func TestExponentTable(t *testing.T) {
	want := map[int]string{
		0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
		2: "USD EUR CNY GBP TWD IDR INR MGA HUF XYZ",
		3: "BHD IQD JOD KWD LYD OMR TND",
		4: "CLF UYW",
	}
	for exponent, codes := range want {
		for code := range strings.FieldsSeq(codes) {
			if got := event.Exponent(code); got != exponent {
				t.Errorf("%s has exponent %d, want %d", code, got, exponent)
			}
		}
	}
}

func TestMoneyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minor := rapid.Int64().Draw(t, "minor")
		exponent := rapid.IntRange(0, 18).Draw(t, "exponent")
		m, err := event.FromMinorExp(minor, exponent, "USD")
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Validate(); err != nil {
			t.Fatal(err)
		}
		back, err := event.ParseDecimalExp(m.Value, exponent, "USD")
		if err != nil || back != m {
			t.Fatalf("%+v became %+v, %v", m, back, err)
		}
		// math/big is the judge of what the text means.
		r, ok := new(big.Rat).SetString(m.Value)
		if !ok {
			t.Fatalf("%q is no number", m.Value)
		}
		r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(exponent)), nil)))
		if !r.IsInt() || r.Num().String() != strconv.FormatInt(minor, 10) {
			t.Fatalf("%s with exponent %d means %s, want %d", m.Value, exponent, r, minor)
		}
	})
}

func FuzzParseDecimal(f *testing.F) {
	for _, s := range []string{"88.00", "-0.05", "1e2", "1.", ".5", "92233720368547758.08", "0.001", ""} {
		f.Add(s, 2)
	}
	f.Fuzz(func(t *testing.T, text string, exponent int) {
		m, err := event.ParseDecimalExp(text, exponent, "USD")
		if err != nil {
			return
		}
		if err := m.Validate(); err != nil {
			t.Fatalf("%q gave %+v: %v", text, m, err)
		}
		want, ok := new(big.Rat).SetString(text)
		got, _ := new(big.Rat).SetString(m.Value)
		if !ok || want.Cmp(got) != 0 {
			t.Fatalf("%q was read as %s", text, m.Value)
		}
	})
}
