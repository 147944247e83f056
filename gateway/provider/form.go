package provider

import (
	"bytes"
	"strings"
)

// maxFormPairs bounds what ParseForm keeps; the longest real notice has about
// forty.
const maxFormPairs = 512

// Form is a decoded form in the order it was sent. Values are bytes in whatever
// character set the sender used.
type Form struct {
	pairs []FormPair
}

// FormPair is one decoded parameter.
type FormPair struct{ Key, Value string }

// ParseForm decodes an application/x-www-form-urlencoded body once. It is strict:
// a key that comes twice is refused, because a signature over the form covers no
// choice between them; so are an empty key, a broken escape and a semicolon that
// some parsers take for a separator.
func ParseForm(body []byte) (Form, error) {
	f := Form{pairs: make([]FormPair, 0, min(maxFormPairs, 1+bytes.Count(body, []byte{'&'})))}
	// Decoding never makes a text longer, so the builder has room for all of them.
	var texts strings.Builder
	texts.Grow(len(body))
	for rest := body; len(rest) > 0; {
		var pair []byte
		pair, rest, _ = bytes.Cut(rest, []byte{'&'})
		if len(pair) == 0 {
			continue
		}
		if len(f.pairs) == maxFormPairs {
			return Form{}, Refuse(ReasonMalformedBody, "form has more than %d parameters", maxFormPairs)
		}
		if bytes.IndexByte(pair, ';') >= 0 {
			return Form{}, Refuse(ReasonMalformedBody, "form has a bare semicolon")
		}
		rawKey, rawValue, _ := bytes.Cut(pair, []byte{'='})
		key, ok := unescapeForm(&texts, rawKey)
		if !ok {
			return Form{}, Refuse(ReasonMalformedBody, "form parameter %d has a broken escape in its name", len(f.pairs))
		}
		value, ok := unescapeForm(&texts, rawValue)
		if !ok {
			return Form{}, Refuse(ReasonMalformedBody, "form parameter %d has a broken escape in its value", len(f.pairs))
		}
		if key == "" {
			return Form{}, Refuse(ReasonMalformedBody, "form parameter %d has no name", len(f.pairs))
		}
		if _, ok := f.Get(key); ok {
			return Form{}, Refuse(ReasonAmbiguous, "form parameter %d repeats the name of an earlier one", len(f.pairs))
		}
		f.pairs = append(f.pairs, FormPair{Key: key, Value: value})
	}
	return f, nil
}

// unescapeForm appends what the raw text stands for, and returns it. It is false for a
// percent sign that two hexadecimal digits do not follow.
func unescapeForm(texts *strings.Builder, raw []byte) (string, bool) {
	from := texts.Len()
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case '+':
			texts.WriteByte(' ')
		case '%':
			if i+2 >= len(raw) || !isHex(raw[i+1]) || !isHex(raw[i+2]) {
				return "", false
			}
			texts.WriteByte(hexDigit(raw[i+1])<<4 | hexDigit(raw[i+2]))
			i += 2
		default:
			texts.WriteByte(c)
		}
	}
	return texts.String()[from:], true
}

// hexDigit is what a hexadecimal digit says.
func hexDigit(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// Get returns a parameter.
func (f Form) Get(key string) (value string, ok bool) {
	for _, p := range f.pairs {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// Value returns a parameter, or "" when it is absent.
func (f Form) Value(key string) string {
	value, _ := f.Get(key)
	return value
}

// Pairs returns every parameter in the order it was sent. The slice is the
// form's own.
func (f Form) Pairs() []FormPair { return f.pairs }
