package provider_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/paybell/paybell/gateway/provider"
)

// FuzzForm holds ParseForm to net/url: what it accepts reads the same there.
func FuzzForm(f *testing.F) {
	for _, body := range []string{
		"", "a=1&b=2", "a=%31+%2b%2B&%62=", "a=%", "a=%1", "a=%zz", "a&b&c", "=1", "a=1&a=2", "a=%00%ff&b=\xff", "a=b;c", "a==&b=%26",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		form, err := provider.ParseForm(body)
		query, queryErr := url.ParseQuery(string(body))
		if err != nil {
			repeated := strings.Contains(err.Error(), string(provider.ReasonAmbiguous))
			_, unnamed := query[""]
			if queryErr == nil && !repeated && !unnamed && len(query) < 500 {
				t.Fatalf("%q: %v, and net/url reads %v", body, err, query)
			}
			return
		}
		if queryErr != nil || len(form.Pairs()) != len(query) {
			t.Fatalf("%q: %v, and net/url: %v, %v", body, form.Pairs(), query, queryErr)
		}
		for _, p := range form.Pairs() {
			if values := query[p.Key]; len(values) != 1 || values[0] != p.Value {
				t.Fatalf("%q: %q is %q, and %q to net/url", body, p.Key, p.Value, values)
			}
		}
	})
}
