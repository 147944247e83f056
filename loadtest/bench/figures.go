package main

import (
	"cmp"
	"math"
	"slices"
)

// percentile is the value that a share of the values do not exceed (nearest rank), 0
// where there are none. It sorts them.
func percentile[T cmp.Ordered](values []T, share float64) T {
	if len(values) == 0 {
		var none T
		return none
	}
	slices.Sort(values)
	rank := int(math.Ceil(share * float64(len(values))))
	return values[min(max(rank, 1), len(values))-1]
}

// median is the middle value, or the mean of the two in the middle; NaN where there
// are none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// ratios are a by b, round by round; rounds that miss either, or whose b is 0, are
// left out. What both have in common, such as the machine's speed in that round, falls
// out of it.
func ratios(a, b map[int]float64) []float64 {
	var out []float64
	for round := range a {
		if below := b[round]; below != 0 {
			out = append(out, a[round]/below)
		}
	}
	return out
}

// per100k is what so many CPU-seconds are for 100,000 of n.
func per100k(seconds float64, n int) float64 {
	if n == 0 {
		return 0
	}
	return seconds * 100_000 / float64(n)
}
