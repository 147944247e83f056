package provider_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/paybell/paybell/gateway/provider"
)

func parse(t *testing.T, text string) *provider.JSON {
	t.Helper()
	doc, err := provider.ParseJSON([]byte(text))
	if err != nil {
		t.Fatalf("ParseJSON(%s): %v", text, err)
	}
	return doc
}

func TestJSONAt(t *testing.T) {
	doc := parse(t, ` {"a":{"b":[10,"x",{"c":null}]},"":1,"a/b":2,"m~n":3,"~1":4,"é":5,"\u0065sc":6,"A":7,"deep":{"deep":{"deep":true}}} `)
	for _, c := range []struct{ pointer, want string }{
		{"/a/b/0", "10"},
		{"/a/b/1", `"x"`},
		{"/a/b/2/c", "null"},
		{"/a/b", `[10,"x",{"c":null}]`},
		{"/", "1"},
		{"/a~1b", "2"},
		{"/m~0n", "3"},
		{"/~01", "4"},
		{"/é", "5"},
		{"/esc", "6"},
		{"/A", "7"},
		{"/deep/deep/deep", "true"},
		{"/a/b/3", ""},
		{"/a/b/00", ""},
		{"/a/b/-", ""},
		{"/a/b/-1", ""},
		{"/a/b/99999999999999999999", ""},
		{"/a/x", ""},
		{"/a/b/0/y", ""},
		{"/AA", ""},
		{"a", ""},
	} {
		t.Run(c.pointer, func(t *testing.T) {
			v := doc.At(c.pointer)
			if got := string(v.Raw()); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if v.Exists() != (c.want != "") || (v.Kind() == provider.Absent) != (c.want == "") {
				t.Errorf("exists %v, kind %v", v.Exists(), v.Kind())
			}
		})
	}
	if got := string(doc.At("").Raw()); !strings.HasPrefix(got, "{") || !strings.HasSuffix(got, "}") {
		t.Errorf("the root is %q", got)
	}
	if got := doc.At("/a").At("/b").At("/1").TextOr(""); got != "x" {
		t.Errorf("a pointer from a value leads to %q", got)
	}
	if got := doc.Root().Member("a/b").Kind(); got != provider.Number {
		t.Errorf("a member by its plain name is %v", got)
	}
	if doc.At("/a/b").Member("0").Exists() {
		t.Errorf("an array has a member")
	}
}

func TestJSONValues(t *testing.T) {
	doc := parse(t, `{"text":"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00","plain":"日本","int":-12,"big":9223372036854775808,"frac":1.0,"exp":1e3,"yes":true,"no":false,"nil":null,"list":[]}`)
	if got := doc.At("/text").TextOr(""); got != "a\"\\/\b\f\n\r\té😀" {
		t.Errorf("escaped text is %q", got)
	}
	if got := doc.At("/plain").TextOr(""); got != "日本" {
		t.Errorf("plain text is %q", got)
	}
	if n, ok := doc.At("/int").Int64(); n != -12 || !ok {
		t.Errorf("integer is %d, %v", n, ok)
	}
	for _, name := range []string{"big", "frac", "exp", "text", "nil", "none"} {
		if n, ok := doc.At("/" + name).Int64(); ok {
			t.Errorf("%s is the integer %d", name, n)
		}
	}
	for name, want := range map[string]json.Number{"big": "9223372036854775808", "frac": "1.0", "exp": "1e3"} {
		if n, ok := doc.At("/" + name).Number(); n != want || !ok {
			t.Errorf("number %s is %s, %v", name, n, ok)
		}
	}
	if yes, ok := doc.At("/yes").Bool(); !yes || !ok {
		t.Errorf("true is %v, %v", yes, ok)
	}
	if no, ok := doc.At("/no").Bool(); no || !ok {
		t.Errorf("false is %v, %v", no, ok)
	}
	if _, ok := doc.At("/nil").Bool(); ok {
		t.Errorf("null is a boolean")
	}
	if _, ok := doc.At("/int").Text(); ok {
		t.Errorf("a number is a text")
	}
	if got := doc.At("/nil").TextOr("other"); got != "other" {
		t.Errorf("null is the text %q", got)
	}
	var zero provider.Value
	if zero.Exists() || zero.At("/a").Exists() || zero.Raw() != nil || zero.Member("a").Exists() {
		t.Errorf("the zero value is there")
	}
}

func TestJSONEach(t *testing.T) {
	doc := parse(t, `{"a":1,"\u0062":[2,{"c":3}],"d":{}}`)
	walk := func(v provider.Value, limit int) (seen []string) {
		v.Each(func(name string, e provider.Value) bool {
			seen = append(seen, name+"="+string(e.Raw()))
			return len(seen) < limit
		})
		return seen
	}
	for _, c := range []struct {
		pointer string
		limit   int
		want    []string
	}{
		{"", 9, []string{"a=1", `b=[2,{"c":3}]`, "d={}"}},
		{"", 2, []string{"a=1", `b=[2,{"c":3}]`}},
		{"/b", 9, []string{"=2", `={"c":3}`}},
		{"/d", 9, nil},
		{"/a", 9, nil},
		{"/none", 9, nil},
	} {
		if got := walk(doc.At(c.pointer), c.limit); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q, want %q", c.pointer, got, c.want)
		}
	}
}

func TestParseJSONRefuses(t *testing.T) {
	long := func(last string) string {
		var b strings.Builder
		for i := range 40 {
			fmt.Fprintf(&b, `"k%d":{"k1":1},`, i)
		}
		return "{" + b.String() + last + "}"
	}
	for _, c := range []struct{ name, text string }{
		{"nothing", ""},
		{"space", " \n"},
		{"two values", "1 2"},
		{"a trailing comma", "[1,]"},
		{"a trailing comma in an object", `{"a":1,}`},
		{"an open object", `{"a":1`},
		{"an open string", `"abc`},
		{"an escape at the end", `"abc\`},
		{"an unknown escape", `"\x"`},
		{"half an escape", `"\u12"`},
		{"a line break in a string", "\"a\nb\""},
		{"single quotes", "'a'"},
		{"a bare name", "{a:1}"},
		{"a leading zero", "01"},
		{"a plus", "+1"},
		{"a lonely minus", "-"},
		{"a lonely point", "1."},
		{"a lonely exponent", "1e"},
		{"NaN", "NaN"},
		{"a wrong word", "trux"},
		{"not UTF-8", "\"\xff\""},
		{"a byte order mark", "\xef\xbb\xbf{}"},
		{"a comment", "{} // x"},
		{"a name twice", `{"a":1,"b":2,"a":3}`},
		{"a name twice, once escaped", `{"a":1,"\u0061":3}`},
		{"an escaped name twice", `{"\u0061":1,"\u0061":3}`},
		{"a name twice, deep", `[{"x":{"a":1,"a":1}}]`},
		{"a name twice among many", long(`"k7":0`)},
		{"a name twice among many, escaped", long(`"k\u0037":0`)},
		{"the last name twice among many", long(`"z":0,"z":0`)},
		{"too deep", strings.Repeat("[", 65) + strings.Repeat("]", 65)},
		{"too deep in objects", strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65)},
		{"too many values", "[" + strings.Repeat("0,", 1<<16) + "0]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := provider.ParseJSON([]byte(c.text))
			if !errors.Is(err, provider.ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
	for _, text := range []string{long(`"z":0`), strings.Repeat("[", 64) + strings.Repeat("]", 64), `{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}`} {
		parse(t, text)
	}
}

// FuzzJSON holds the parser to encoding/json: whatever it accepts is the same
// value there, and what it refuses is invalid there or is one of the few things
// it refuses on purpose.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{`{"a":[1,-0.5e+3,"x\u00e9\n",true,false,null,{}],"b":{"c":""}}`, `{"a":1,"a":2}`, `"\ud800"`, ` [ ] `, `0`, "[[[["} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := provider.ParseJSON(text)
		if err != nil {
			if !errors.Is(err, provider.ErrMalformed) {
				t.Fatalf("error %v", err)
			}
			if json.Valid(text) && !onPurpose(err) {
				t.Fatalf("refused %q: %v", text, err)
			}
			return
		}
		dec := json.NewDecoder(strings.NewReader(string(text)))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil {
			t.Fatalf("accepted %q, encoding/json says %v", text, err)
		}
		if got := value(doc.Root()); !reflect.DeepEqual(got, want) {
			t.Fatalf("read %q as %v, want %v", text, got, want)
		}
	})
}

func onPurpose(err error) bool {
	for _, reason := range []string{"comes twice", "too deep", "too many", "UTF-8"} {
		if strings.Contains(err.Error(), reason) {
			return true
		}
	}
	return false
}

// value is what encoding/json would make of a value. Members are looked up by
// name as well, so that At is held to Each.
func value(v provider.Value) any {
	switch v.Kind() {
	case provider.Bool:
		b, _ := v.Bool()
		return b
	case provider.Number:
		n, _ := v.Number()
		return n
	case provider.String:
		if s, ok := v.Text(); ok {
			return s
		}
		var s string // Half of a surrogate pair: nothing that Text would return.
		if err := json.Unmarshal(v.Raw(), &s); err != nil || !strings.ContainsRune(s, utf8.RuneError) {
			return fmt.Errorf("%s is readable: %w", v.Raw(), err)
		}
		return s
	case provider.Array:
		list := []any{}
		v.Each(func(_ string, e provider.Value) bool {
			list = append(list, value(e))
			return true
		})
		return list
	case provider.Object:
		object := map[string]any{}
		v.Each(func(name string, _ provider.Value) bool {
			object[name] = value(v.Member(name))
			return true
		})
		return object
	default:
		return nil
	}
}

func TestPointers(t *testing.T) {
	for pointer, ok := range map[string]bool{
		"/a": true, "/": true, "/a/b/0": true, "/a~0b~1c": true, "//": true,
		"": false, "a": false, "/a~": false, "/a~2": false, "$.a": false,
	} {
		if err := provider.CheckPointer(pointer); (err == nil) != ok {
			t.Errorf("CheckPointer(%q) is %v", pointer, err)
		}
	}
}

func TestPlace(t *testing.T) {
	root := map[string]any{"taken": 1}
	for _, p := range []string{"/a/b", "/a/c~1d/e~0f", "/z"} {
		if err := provider.Place(root, p, p); err != nil {
			t.Fatalf("Place(%s): %v", p, err)
		}
	}
	text, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	doc := parse(t, string(text))
	for _, p := range []string{"/a/b", "/a/c~1d/e~0f", "/z"} {
		if got := doc.At(p).TextOr(""); got != p {
			t.Errorf("At(%s) is %q", p, got)
		}
	}
	for _, p := range []string{"/taken/x", "z", ""} {
		if err := provider.Place(root, p, "x"); !errors.Is(err, provider.ErrNoSample) {
			t.Errorf("Place(%q): %v, want ErrNoSample", p, err)
		}
	}
	if one, two := provider.MadeID("a", "b"), provider.MadeID("ab"); one == two || one != provider.MadeID("a", "b") || len(one) != 24 {
		t.Errorf("made ids do not follow their parts: %s, %s", one, two)
	}
}

// TestHalfASurrogatePairIsNoText: encoding/json makes the same U+FFFD of all of them.
func TestHalfASurrogatePairIsNoText(t *testing.T) {
	for text, want := range map[string]string{
		`"S\ud83d\ude00x"`: "S😀x", `"\uD834\uDD1E"`: "𝄞", `"\ufffd"`: "�", `"\u00e9"`: "é", `"\\ud800"`: `\ud800`,
	} {
		doc, err := provider.ParseJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := doc.Root().Text(); !ok || got != want || doc.Root().Unreadable() {
			t.Errorf("%s is %q, %v, want %q", text, got, ok, want)
		}
	}
	for _, text := range []string{
		`"S\ud800x"`, `"S\ud801x"`, `"\udc00"`, `"\ud800"`, `"\ud800\ud800\udc00"`, `"\ud800\u0041"`, `"\udc00\ud800"`,
		`"\ud800\\udc00"`, `"\ud83d\n\ude00"`,
	} {
		doc, err := provider.ParseJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := doc.Root().Text(); ok || got != "" || !doc.Root().Unreadable() || doc.Root().TextOr("other") != "other" {
			t.Errorf("%s is read as %q", text, got)
		}
	}
}
