package provider

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

type jsonParser struct {
	j  *JSON
	at int
}

func (p *jsonParser) fail(what string) error {
	return fmt.Errorf("%w: JSON: %s (offset %d)", ErrMalformed, what, p.at)
}

// document reads the whole text.
func (p *jsonParser) document() error {
	if len(p.j.text) > 1<<30 {
		return p.fail("text is too long")
	}
	if !utf8.Valid(p.j.text) {
		return p.fail("text is not UTF-8")
	}
	p.space()
	if err := p.value(jsonNode{}, 0); err != nil {
		return err
	}
	p.space()
	if p.at != len(p.j.text) {
		return p.fail("text goes on after its value")
	}
	return nil
}

func (p *jsonParser) space() {
	for p.at < len(p.j.text) {
		switch p.j.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

func (p *jsonParser) peek() byte {
	if p.at < len(p.j.text) {
		return p.j.text[p.at]
	}
	return 0
}

// value reads one value; n carries its name.
func (p *jsonParser) value(n jsonNode, depth int) error {
	if len(p.j.nodes) == maxJSONNodes {
		return p.fail("too many values")
	}
	n.start = int32(p.at) //nolint:gosec // ParseJSON bounds the text to 1 GiB.
	self := len(p.j.nodes)
	p.j.nodes = append(p.j.nodes, n)
	var err error
	switch c := p.peek(); {
	case c == '{':
		n.kind, err = Object, p.object(self, depth+1)
	case c == '[':
		n.kind, err = Array, p.array(depth+1)
	case c == '"':
		n.kind = String
		n.escaped, n.halved, err = p.text()
	case c == '-' || ('0' <= c && c <= '9'):
		n.kind, err = Number, p.number()
	case c == 't':
		n.kind, err = Bool, p.literal("true")
	case c == 'f':
		n.kind, err = Bool, p.literal("false")
	case c == 'n':
		n.kind, err = Null, p.literal("null")
	default:
		err = p.fail("a value is wanted")
	}
	if err != nil {
		return err
	}
	n.end = int32(p.at)            //nolint:gosec // As above.
	n.next = int32(len(p.j.nodes)) //nolint:gosec // Bounded by maxJSONNodes.
	p.j.nodes[self] = n
	return nil
}

func (p *jsonParser) object(self, depth int) error {
	if depth > maxJSONDepth {
		return p.fail("nested too deep")
	}
	p.at++
	p.space()
	if p.peek() == '}' {
		p.at++
		return nil
	}
	var seen map[string]struct{}
	for members := 1; ; members++ {
		var n jsonNode
		if p.peek() != '"' {
			return p.fail("a member name is wanted")
		}
		n.keyStart = int32(p.at + 1) //nolint:gosec // As above.
		escaped, _, err := p.text()
		if err != nil {
			return err
		}
		n.keyEnd, n.escapedKey = int32(p.at-1), escaped //nolint:gosec // As above.
		if p.repeats(self, n, members, &seen) {
			return p.fail("a member name comes twice in one object")
		}
		p.space()
		if p.peek() != ':' {
			return p.fail("a colon is wanted")
		}
		p.at++
		p.space()
		if err := p.value(n, depth); err != nil {
			return err
		}
		p.space()
		switch p.peek() {
		case ',':
			p.at++
			p.space()
		case '}':
			p.at++
			return nil
		default:
			return p.fail("a comma or closing brace is wanted")
		}
	}
}

// repeats tells whether an earlier member of the object has n's name. The nodes
// of earlier members stand behind the object's own.
func (p *jsonParser) repeats(self int, n jsonNode, members int, seen *map[string]struct{}) bool {
	name := p.j.words[n.keyStart:n.keyEnd]
	if n.escapedKey {
		name = unescape(name)
	}
	if members > scanMembers {
		if *seen == nil {
			*seen = make(map[string]struct{}, 2*scanMembers)
			for i := self + 1; i < len(p.j.nodes); i = int(p.j.nodes[i].next) {
				(*seen)[p.j.name(int32(i))] = struct{}{} //nolint:gosec // As above.
			}
		}
		_, found := (*seen)[name]
		(*seen)[name] = struct{}{}
		return found
	}
	for i := self + 1; i < len(p.j.nodes); {
		c := &p.j.nodes[i]
		if c.escapedKey {
			if p.j.name(int32(i)) == name { //nolint:gosec // As above.
				return true
			}
		} else if p.j.words[c.keyStart:c.keyEnd] == name {
			return true
		}
		i = int(c.next)
	}
	return false
}

func (p *jsonParser) array(depth int) error {
	if depth > maxJSONDepth {
		return p.fail("nested too deep")
	}
	p.at++
	p.space()
	if p.peek() == ']' {
		p.at++
		return nil
	}
	for {
		if err := p.value(jsonNode{}, depth); err != nil {
			return err
		}
		p.space()
		switch p.peek() {
		case ',':
			p.at++
			p.space()
		case ']':
			p.at++
			return nil
		default:
			return p.fail("a comma or closing bracket is wanted")
		}
	}
}

// plainInText are the bytes that stand for themselves in a string.
var plainInText = func() (plain [256]bool) {
	for c := range plain {
		plain[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return plain
}()

// text reads a string and reports whether it holds a backslash, and whether one of its
// escapes is half of a surrogate pair: such a string is no text (RFC 8259, section 8.2).
func (p *jsonParser) text() (escaped, halved bool, err error) {
	t := p.j.text
	for i := p.at + 1; i < len(t); i++ {
		for i < len(t) && plainInText[t[i]] {
			i++
		}
		if i == len(t) {
			break
		}
		switch c := t[i]; {
		case c == '"':
			p.at = i + 1
			return escaped, halved, nil
		case c < ' ':
			p.at = i
			return false, false, p.fail("a control character stands in a string")
		case c == '\\':
			escaped = true
			i++
			if i == len(t) {
				break
			}
			switch t[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				from := i + 1
				for range 4 {
					i++
					if i >= len(t) || !isHex(t[i]) {
						p.at = i
						return false, false, p.fail("four hexadecimal digits are wanted")
					}
				}
				switch unit := hexUnit(t[from:]); {
				case unit>>10 == highHalf && lowFollows(t[i+1:]):
					i += len(`\uDC00`)
				case unit>>10 == highHalf || unit>>10 == lowHalf:
					halved = true
				}
			default:
				p.at = i
				return false, false, p.fail("unknown escape")
			}
		}
	}
	p.at = len(t)
	return false, false, p.fail("a string does not end")
}

// The upper six bits of the halves of a surrogate pair.
const (
	highHalf = 0xD800 >> 10
	lowHalf  = 0xDC00 >> 10
)

// hexUnit is what four hexadecimal digits say.
func hexUnit(digits []byte) uint16 {
	n, _ := strconv.ParseUint(string(digits[:4]), 16, 16) // they were looked at before
	return uint16(n)
}

// lowFollows reports whether the text goes on with the escape of a low half.
func lowFollows(t []byte) bool {
	if len(t) < len(`\uDC00`) || t[0] != '\\' || t[1] != 'u' {
		return false
	}
	for _, c := range t[2:6] {
		if !isHex(c) {
			return false
		}
	}
	return hexUnit(t[2:])>>10 == lowHalf
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func (p *jsonParser) number() error {
	if p.peek() == '-' {
		p.at++
	}
	if p.peek() == '0' {
		p.at++
	} else if !p.digits() {
		return p.fail("a digit is wanted")
	}
	if p.peek() == '.' {
		p.at++
		if !p.digits() {
			return p.fail("a digit is wanted")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if !p.digits() {
			return p.fail("a digit is wanted")
		}
	}
	return nil
}

func (p *jsonParser) digits() bool {
	from := p.at
	for '0' <= p.peek() && p.peek() <= '9' {
		p.at++
	}
	return p.at > from
}

func (p *jsonParser) literal(word string) error {
	if !strings.HasPrefix(p.j.words[p.at:], word) {
		return p.fail("a value is wanted")
	}
	p.at += len(word)
	return nil
}
