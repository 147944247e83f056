package event

// Money is an exact amount. Value and Minor say the same: Minor = Value × 10^Exponent.
type Money struct {
	// Value is decimal text with exactly Exponent digits after the point.
	Value string `json:"value"`
	// Minor is the amount in minor units.
	Minor    int64 `json:"minor"`
	Exponent int   `json:"exponent"`
	// Currency is an upper-case ISO 4217 alphabetic code.
	Currency string `json:"currency"`
}
