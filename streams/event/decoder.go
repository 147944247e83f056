package event

import (
	"strings"
	"time"
	"unicode/utf8"
)

// decoder reads JSON without blanks, with members by their exact names and none twice,
// and without null. Texts are parts of the JSON and share its memory.
type decoder struct {
	text  string
	at    int
	other bool // something it does not know
}

// done reports whether the text was read to its end.
func (d *decoder) done() bool { return !d.other && d.at == len(d.text) }

// object reads an object; set reads the value of the member it is given.
func (d *decoder) object(set func(name string) int) {
	d.skip('{')
	if d.next() == '}' {
		d.at++
		return
	}
	var seen uint64
	for !d.other {
		name := d.string()
		d.skip(':')
		member := set(name)
		if member == unknownMember || seen&(1<<member) != 0 {
			d.other = true
			return
		}
		seen |= 1 << member
		if d.next() != ',' {
			break
		}
		d.at++
	}
	d.skip('}')
}

// list reads an array of texts that has at least one.
func (d *decoder) list() []string {
	d.skip('[')
	var out []string
	for !d.other {
		out = append(out, d.string())
		if d.next() != ',' {
			break
		}
		d.at++
	}
	d.skip(']')
	return out
}

// next is the byte that comes, 0 at the end.
func (d *decoder) next() byte {
	if d.at < len(d.text) {
		return d.text[d.at]
	}
	return 0
}

// skip goes over the byte that has to come.
func (d *decoder) skip(c byte) {
	if d.next() != c {
		d.other = true
		return
	}
	d.at++
}

func (d *decoder) string() string {
	if d.skip('"'); d.other {
		return ""
	}
	ascii := true
	for i := d.at; i < len(d.text); i++ {
		switch c := d.text[i]; {
		case c == '"':
			s := d.text[d.at:i]
			d.at = i + 1
			if !ascii && !utf8.ValidString(s) {
				d.other = true
			}
			return s
		case c == '\\':
			return d.escaped(i)
		case c < ' ':
			d.other = true
			return ""
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	d.other = true
	return ""
}

// escaped reads the rest of a text whose first escape is at i.
func (d *decoder) escaped(i int) string {
	b := make([]byte, 0, 2*(i-d.at)+16)
	b = append(b, d.text[d.at:i]...)
	for i < len(d.text) {
		c := d.text[i]
		i++
		switch {
		case c == '"':
			d.at = i
			if !utf8.Valid(b) {
				d.other = true
			}
			return string(b)
		case c < ' ':
			d.other = true
			return ""
		case c != '\\':
			b = append(b, c)
			continue
		}
		if i == len(d.text) {
			break
		}
		c = d.text[i]
		i++
		const escapes, bytes = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
		if at := strings.IndexByte(escapes, c); at >= 0 {
			b = append(b, bytes[at])
			continue
		}
		r, ok := hex4(d.text[i:])
		if c != 'u' || !ok || r >= 0xD800 && r < 0xE000 { // halves of a pair are not ours
			break
		}
		b = utf8.AppendRune(b, r)
		i += 4
	}
	d.other = true
	return ""
}

// hex4 reads the four digits of \uXXXX.
func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range []byte(s[:4]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// int64 reads a whole number of at most 18 digits, which fits.
func (d *decoder) int64() int64 {
	start, negative := d.at, d.next() == '-'
	if negative {
		d.at++
		start++
	}
	var n int64
	for c := d.next(); c >= '0' && c <= '9'; c = d.next() {
		if d.at-start == 18 {
			d.other = true
			return 0
		}
		n = n*10 + int64(c-'0')
		d.at++
	}
	if d.at == start || d.text[start] == '0' && d.at > start+1 {
		d.other = true
	}
	// A fraction or an exponent is not what may come behind a value, and is found there.
	if negative {
		return -n
	}
	return n
}

func (d *decoder) int() int {
	n := d.int64()
	if int64(int(n)) != n {
		d.other = true
	}
	return int(n)
}

func (d *decoder) number() *int64 {
	n := d.int64()
	return &n
}

func (d *decoder) bool() bool {
	switch rest := d.text[d.at:]; {
	case strings.HasPrefix(rest, "true"):
		d.at += len("true")
		return true
	case strings.HasPrefix(rest, "false"):
		d.at += len("false")
	default:
		d.other = true
	}
	return false
}

// time reads a time in UTC as the encoder writes it. What time.Parse takes beyond
// RFC 3339, encoding/json does not: an hour of one digit, a comma before the fraction.
func (d *decoder) time() time.Time {
	const seconds = len("2006-01-02T15:04:05")
	start := d.at
	text := d.string()
	if n := len(text); d.other || d.at-start != n+len(`""`) || n <= seconds ||
		text[n-1] != 'Z' || text[len("2006-01-02T15")] != ':' || text[seconds] == ',' {
		d.other = true
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		d.other = true
	}
	return t
}
