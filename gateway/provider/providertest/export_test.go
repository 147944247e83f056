package providertest

import "testing"

// Check is one promise of the suite, for the suite's own tests.
type Check struct {
	Name string
	Run  func(tb testing.TB, s Suite)
}

// Checks returns every check.
func Checks() []Check {
	out := make([]Check, len(checks))
	for i, c := range checks {
		out[i] = Check{Name: c.name, Run: c.run}
	}
	return out
}
