package main

import (
	"fmt"
	"strconv"
	"strings"
)

// groups are the consumer groups whose effects are counted.
var groups = []string{"orderstatus", "points", "eventlog"}

// expected is what the accepted callbacks must have come to. Orders are numbers;
// see callbacks.js.
type expected struct {
	run string
	// certain orders had at least one callback accepted.
	certain map[int]bool
	// open orders had none accepted: their callbacks may have been kept all the same.
	open map[int]bool
}

// expect works out the orders of a run. It takes part in the agreement with
// callbacks.js that every tenth callback is the one before again.
func expect(s *sent) (expected, error) {
	if len(s.unaccepted) != s.Sent-s.Accepted {
		return expected{}, fmt.Errorf("k6 counted %d callbacks that were not accepted and logged %d", s.Sent-s.Accepted, len(s.unaccepted))
	}
	failed := map[unaccepted]bool{}
	for _, u := range s.unaccepted {
		failed[unaccepted{Order: u.Order, Again: u.Again}] = true
	}
	want := expected{run: s.run, certain: map[int]bool{}, open: map[int]bool{}}
	for i := range s.Sent {
		n, again := i, i%10 == 9
		if again {
			n = i - 1
		}
		if !failed[unaccepted{Order: n, Again: again}] {
			want.certain[n] = true
		}
	}
	for u := range failed {
		if !want.certain[u.Order] {
			want.open[u.Order] = true
		}
	}
	return want, nil
}

// cents is what order n costs; callbacks.js says the same.
func cents(n int) int64 { return int64(1+n%100)*100 + 50 }

// points is what order n is worth: one for every full dollar.
func points(n int) int64 { return cents(n) / 100 }

// customer is who placed order n.
func (w expected) customer(n int) string { return w.run + "-customer-" + strconv.Itoa(n%1000) }

// number is the number of an order reference of this run.
func (w expected) number(orderRef string) (int, bool) {
	text, ours := strings.CutPrefix(orderRef, w.run+"-")
	n, err := strconv.Atoi(text)
	return n, ours && err == nil
}
