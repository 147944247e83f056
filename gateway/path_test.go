package gateway_test

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestPath: only a path that every proxy in front reads the same way leads to an account.
func TestPath(t *testing.T) {
	const account, path, method = "unknown_account", "unknown_path", "method"
	for target, tc := range map[string]struct {
		status int
		reason string // "" where the callback is taken
	}{
		"/callbacks/bell":                        {status: 200},
		"/callbacks/bell?query=1":                {status: 200},
		"/callbacks/be%6cl":                      {status: 200},
		"http://elsewhere/callbacks/bell":        {status: 200},
		"/callbacks/bell/":                       {status: 200},
		"/callbacks/bell/?query=1":               {status: 200},
		"/callbacks/be%6Cl/":                     {status: 200},
		"/callbacks%2fbell":                      {status: 404, reason: path},
		"/callbacks%2Fbell/":                     {status: 404, reason: path},
		"/%2fcallbacks/bell":                     {status: 404, reason: path},
		"/callbacks/bell%2f":                     {status: 404, reason: account},
		"/callbacks/%2fbell":                     {status: 404, reason: account},
		"/callbacks/bell%2f..":                   {status: 404, reason: account},
		"/callbacks/x%2f..%2fbell":               {status: 404, reason: account},
		"/callbacks/x%2f../bell":                 {status: 404, reason: path},
		"/callbacks/x/../bell":                   {status: 404, reason: path},
		"/callbacks/./bell":                      {status: 404, reason: path},
		"/callbacks/bell/.":                      {status: 404, reason: path},
		"/callbacks/bell%00":                     {status: 404, reason: account},
		"/callbacks/bell%20":                     {status: 404, reason: account},
		"/callbacks/bell+":                       {status: 404, reason: account},
		"/callbacks/bell;x=1":                    {status: 404, reason: account},
		"/callbacks/be%256cl":                    {status: 404, reason: account},
		"/callbacks/bell//":                      {status: 404, reason: path},
		"/callbacks/bell/%2f":                    {status: 404, reason: path},
		"/callbacks//bell":                       {status: 404, reason: path},
		"/callbacks//":                           {status: 404, reason: account},
		"/callbacks/":                            {status: 404, reason: path},
		"/callbacks":                             {status: 404, reason: path},
		"//callbacks/bell":                       {status: 404, reason: path},
		"/callbacks/bell/more":                   {status: 404, reason: path},
		"/callbacks%2fhealthz":                   {status: 404, reason: path},
		"/":                                      {status: 404, reason: path},
		"*":                                      {status: 404, reason: path},
		"/callbacks/" + strings.Repeat("b", 9e3): {status: 404, reason: account},
	} {
		t.Run(target[:min(len(target), 64)], func(t *testing.T) {
			d := newDoor(t, nil)
			text := strings.Replace(post(paid, len(paid)), "/callbacks/bell", target, 1)
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			if w.Code != tc.status || w.Header().Get("Location") != "" {
				t.Errorf("got %d %v", w.Code, w.Header())
			}
			want, kept := []string{"bell", "accepted"}, 1
			if tc.reason != "" {
				want, kept = []string{"unknown", "rejected", tc.reason}, 0
			}
			if got := d.count(t, want...); got != 1 || d.count(t) != 1 {
				t.Errorf("counted %v as %v, %v in all", got, want, d.count(t))
			}
			if got := len(d.appender.kept()); got != kept {
				t.Errorf("%d entries, want %d", got, kept)
			}
			if tc.reason != "" {
				return
			}
			// The path is one of an account for every method.
			r.Method = http.MethodGet
			w = httptest.NewRecorder()
			d.ServeHTTP(w, r)
			if w.Code != 405 || w.Header().Get("Allow") != "POST" || d.count(t, "unknown", method) != 1 {
				t.Errorf("GET: got %d, Allow %q", w.Code, w.Header().Get("Allow"))
			}
		})
	}
}
