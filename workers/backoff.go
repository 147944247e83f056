package workers

import (
	"math/rand/v2"
	"time"
)

// pause draws the time to wait after the given failed attempt, counted from 1:
// full jitter, so that orders which failed together do not come back together.
func (b Backoff) pause(attempt int) time.Duration {
	bound := b.Max
	// Shifting further than the bound would overflow before it is compared.
	if n := attempt - 1; n < 40 && b.Initial < b.Max>>n {
		bound = b.Initial << n
	}
	return rand.N(bound + 1) //nolint:gosec // A guessable pause harms nobody.
}
