package provider

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"unsafe"
)

// Bounds of a JSON text.
const (
	maxJSONDepth = 64
	maxJSONNodes = 1 << 16
	// scanMembers is up to how many members an object's names are compared one by
	// one; longer objects pay for a map.
	scanMembers = 24
	// pooledJSONNodes is how many nodes are kept for the next text; ordinary callbacks
	// have fewer than 200.
	pooledJSONNodes = 1 << 10
)

// JSON is a text that was checked once, from end to end, and is then looked into
// without being copied. It is stricter than encoding/json, which takes the last
// of two members with one name and matches names in any case: the event log's
// readers may take the first, so a text with two is refused. Numbers stay text
// until somebody asks for an integer; nothing here is ever a float.
//
// A JSON keeps its text, and what it tells of it are pieces of that text: never change
// it.
type JSON struct {
	text []byte
	// words are the text as a string.
	words string
	nodes []jsonNode
}

var jsons = sync.Pool{New: func() any { return new(JSON) }}

type jsonNode struct {
	// key is the raw member name without quotes; empty for array elements.
	keyStart, keyEnd int32
	// start and end enclose the value, quotes and brackets included.
	start, end int32
	// next is the node after this one and everything inside it.
	next int32
	kind Kind
	// escaped says that a string or a name holds a backslash.
	escapedKey, escaped bool
	// halved says that a string holds half of a surrogate pair.
	halved bool
}

// Kind is the kind of a JSON value.
type Kind uint8

// Kinds of values. Absent is a value that is not there.
const (
	Absent Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// ParseJSON checks a text. Its errors wrap ErrMalformed, and hold offsets but
// never a part of the text.
func ParseJSON(text []byte) (*JSON, error) {
	j := jsons.Get().(*JSON)                                                 //nolint:errcheck // nothing else is put in
	j.text, j.words = text, unsafe.String(unsafe.SliceData(text), len(text)) //nolint:gosec // The text never changes.
	if want := 16 + len(text)/20; cap(j.nodes) < want {
		j.nodes = make([]jsonNode, 0, want)
	}
	if err := (&jsonParser{j: j}).document(); err != nil {
		j.Free()
		return nil, err
	}
	return j, nil
}

// Free gives back what looking into the text needed. The JSON and its Values must not
// be used any more; texts and raw values they returned stay as they are.
func (j *JSON) Free() {
	if cap(j.nodes) > pooledJSONNodes {
		j.nodes = nil
	}
	j.text, j.words, j.nodes = nil, "", j.nodes[:0]
	jsons.Put(j)
}

// Root returns the whole value.
func (j *JSON) Root() Value { return Value{j: j} }

// At looks up an RFC 6901 pointer from the root.
func (j *JSON) At(pointer string) Value { return j.Root().At(pointer) }

// Value is a place in a JSON. The zero Value is absent, and everything asked of
// it answers so.
type Value struct {
	j    *JSON
	node int32
}

// Kind returns the kind of the value.
func (v Value) Kind() Kind {
	if v.j == nil {
		return Absent
	}
	return v.j.nodes[v.node].kind
}

// Exists reports whether the value is there, null included.
func (v Value) Exists() bool { return v.j != nil }

// At looks up an RFC 6901 pointer from this value: "" is the value itself,
// "/a/0" the first element of its member a. Names match exactly.
func (v Value) At(pointer string) Value {
	for pointer != "" && v.j != nil {
		if pointer[0] != '/' {
			return Value{}
		}
		name := pointer[1:]
		pointer = ""
		if i := strings.IndexByte(name, '/'); i >= 0 {
			name, pointer = name[:i], name[i:]
		}
		v = v.child(unescapePointer(name))
	}
	return v
}

// Member returns a member of an object by its plain name.
func (v Value) Member(name string) Value {
	if v.Kind() != Object {
		return Value{}
	}
	return v.child(name)
}

func (v Value) child(name string) Value {
	n := &v.j.nodes[v.node]
	switch n.kind {
	case Object:
		for i := v.node + 1; i < n.next; i = v.j.nodes[i].next {
			c := &v.j.nodes[i]
			raw := v.j.words[c.keyStart:c.keyEnd]
			if raw == name && !c.escapedKey || c.escapedKey && unescape(raw) == name {
				return Value{v.j, i}
			}
		}
	case Array:
		index, err := strconv.ParseUint(name, 10, 31)
		if err != nil || (len(name) > 1 && name[0] == '0') {
			return Value{}
		}
		for i := v.node + 1; i < n.next; i = v.j.nodes[i].next {
			if index == 0 {
				return Value{v.j, i}
			}
			index--
		}
	}
	return Value{}
}

// Each calls visit for every member or element in order, until it returns false.
// Elements have no name.
func (v Value) Each(visit func(name string, element Value) bool) {
	if k := v.Kind(); k != Object && k != Array {
		return
	}
	for i := v.node + 1; i < v.j.nodes[v.node].next; i = v.j.nodes[i].next {
		if !visit(v.j.name(i), Value{v.j, i}) {
			return
		}
	}
}

// Raw returns the value as it stands in the text, nil when absent.
func (v Value) Raw() []byte {
	if v.j == nil {
		return nil
	}
	n := &v.j.nodes[v.node]
	return v.j.text[n.start:n.end:n.end]
}

// words is Raw of a value that is there, as a string.
func (v Value) words() string {
	n := &v.j.nodes[v.node]
	return v.j.words[n.start:n.end]
}

// Text returns the value of a string; false for everything else, and for a string with
// half of a surrogate pair in it: two such strings would read alike and be different.
func (v Value) Text() (string, bool) {
	if v.Kind() != String || v.j.nodes[v.node].halved {
		return "", false
	}
	n := &v.j.nodes[v.node]
	raw := v.j.words[n.start+1 : n.end-1]
	if !n.escaped {
		return raw, true
	}
	return unescape(raw), true
}

// TextOr returns the value of a string, or other.
func (v Value) TextOr(other string) string {
	if s, ok := v.Text(); ok {
		return s
	}
	return other
}

// Unreadable reports whether there is something, not null, that is not a text.
func (v Value) Unreadable() bool {
	_, ok := v.Text()
	return !ok && v.Kind() > Null
}

// Number returns the text of a number; false for everything else.
func (v Value) Number() (json.Number, bool) {
	if v.Kind() != Number {
		return "", false
	}
	return json.Number(v.words()), true
}

// Int64 returns a number that is written as an integer and fits; false for
// everything else, 1.0 and 1e3 included.
func (v Value) Int64() (int64, bool) {
	if v.Kind() != Number {
		return 0, false
	}
	n, err := strconv.ParseInt(v.words(), 10, 64)
	return n, err == nil
}

// Bool returns the value of a boolean; ok is false for everything else.
func (v Value) Bool() (value, ok bool) {
	if v.Kind() != Bool {
		return false, false
	}
	return v.Raw()[0] == 't', true
}

func (j *JSON) name(node int32) string {
	n := &j.nodes[node]
	raw := j.words[n.keyStart:n.keyEnd]
	if n.escapedKey {
		return unescape(raw)
	}
	return raw
}

// unescape decodes the inside of a checked string. encoding/json knows how
// surrogates pair, so it is asked.
func unescape(raw string) string {
	quoted := make([]byte, 0, len(raw)+2)
	quoted = append(append(append(quoted, '"'), raw...), '"')
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		// The parser has accepted this string, so encoding/json does as well;
		// FuzzJSON holds the two together.
		return ""
	}
	return s
}
