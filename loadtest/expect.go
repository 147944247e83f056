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
	run, scenario string
	// certain orders had at least one callback accepted.
	certain map[int]bool
	// open orders had none accepted: their callbacks may have been kept all the same.
	open map[int]bool
}

// callback is what callback i of a scenario is: the order that it pays, and whether it
// is forged. callbacks.js says the same.
func callback(scenario string, i int) (order int, forged bool) {
	switch {
	case scenario == "storm":
		return i - i%10, false
	case scenario == "forged":
		return i, i%10 > 0
	case i%10 == 9: // a redelivery
		return i - 1, false
	}
	return i, false
}

// expect works out the orders of a run.
func expect(s *sent) (expected, error) {
	if len(s.unaccepted) != s.Sent-s.Forged-s.Accepted {
		return expected{}, fmt.Errorf("k6 counted %d callbacks that were not accepted and logged %d", s.Sent-s.Forged-s.Accepted, len(s.unaccepted))
	}
	failed := map[int]bool{}
	for _, u := range s.unaccepted {
		failed[u.Callback] = true
	}
	want := expected{run: s.run, scenario: s.scenario, certain: map[int]bool{}, open: map[int]bool{}}
	for i := range s.Sent {
		if n, forged := callback(s.scenario, i); !forged && !failed[i] {
			want.certain[n] = true
		}
	}
	for i := range failed {
		if n, _ := callback(s.scenario, i); !want.certain[n] {
			want.open[n] = true
		}
	}
	return want, nil
}

// cents is what order n costs; callbacks.js says the same.
func cents(n int) int64 { return int64(1+n%100)*100 + 50 }

// points is what order n is worth: one for every full dollar.
func points(n int) int64 { return cents(n) / 100 }

// currency is what order n is paid in.
func (w expected) currency(n int) string {
	if w.scenario == "mix" && n%4 >= 2 {
		return "CNY"
	}
	return "USD"
}

// customer is who placed order n.
func (w expected) customer(n int) string { return w.run + "-customer-" + strconv.Itoa(n%1000) }

// number is the number of an order reference of this run.
func (w expected) number(orderRef string) (int, bool) {
	text, ours := strings.CutPrefix(orderRef, w.run+"-")
	n, err := strconv.Atoi(text)
	return n, ours && err == nil
}
