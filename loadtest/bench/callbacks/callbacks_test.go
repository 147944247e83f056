package callbacks_test

import (
	"bytes"
	"testing"

	"github.com/paybell/paybell/loadtest/bench/callbacks"
)

// Lists are as large as real callbacks are, and no two callbacks are one.
func TestLists(t *testing.T) {
	keys, err := callbacks.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	for account, size := range map[string][2]int{callbacks.Stripe: {1150, 1350}, callbacks.Alipay: {900, 1200}, callbacks.WeChat: {700, 1100}} {
		list, err := keys.List(account, 5)
		if err != nil {
			t.Fatal(err)
		}
		if list.Len() != 5 {
			t.Errorf("%s: %d callbacks", account, list.Len())
		}
		for i := range list.Len() {
			if n := len(list.Body(i)); n < size[0] || n > size[1] {
				t.Errorf("%s: a body of %d bytes", account, n)
			}
			if i > 0 && bytes.Equal(list.Body(i), list.Body(i-1)) {
				t.Errorf("%s: callback %d is the one before", account, i)
			}
			if _, err := list.Altered(i); err != nil {
				t.Error(err)
			}
		}
	}
	if n, ours := keys.Number(keys.Order(42)); !ours || n != 42 {
		t.Errorf("order 42 is number %d, %v", n, ours)
	}
	if _, ours := keys.Number("another-00000042"); ours {
		t.Error("an order of another run was taken for ours")
	}
}
