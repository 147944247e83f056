package main

import (
	"strings"
	"testing"

	"github.com/paybell/paybell/gateway/admin"
	"github.com/paybell/paybell/streams"
)

// The status names beside a group's counts what holds it back, and what was found.
func TestStatusShowsWhatIsWrongWithAGroup(t *testing.T) {
	var b strings.Builder
	addGroup(&b, &streams.GroupStats{Group: "points", Lag: 500, LagMin: true, Parked: 7, Dead: 3, Lost: 2, Overtaken: 4},
		map[string][]string{"points": {"handler: the database is away"}, "orderstatus": {"redis: away"}})
	addLedger(&b, map[string]admin.LedgerStatus{"points": {Account: streams.Account{Lost: 2, Again: 5, Alarm: streams.Alarm{Again: 1}}}})
	for _, want := range []string{
		"points\t500+\t0\t-\t7\t3\t2\t0\n",
		"  ! overtaken 4 times: ",
		"  ! this process pauses it: handler: the database is away\n",
		"points\t0\t0\t0\t0\t0\t0\t0\t0\t2\t5\t0\t0\n",
		"  ! 0 lost and 1 found twice: ",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "redis: away") {
		t.Errorf("another group's pause is shown:\n%s", b.String())
	}
}
