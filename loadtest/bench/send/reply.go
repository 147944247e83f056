package send

import (
	"bytes"
	"errors"
	"strconv"
)

// reply is what is read of a reply.
type reply struct {
	status int
	// size is the whole reply's length in bytes.
	size int
	// last says that the server closes the connection after it.
	last bool
}

var errReply = errors.New("not a reply that this generator reads")

// parse reads the reply that b begins with; ok is false while it is not whole.
func parse(b []byte) (r reply, ok bool, err error) {
	head := bytes.Index(b, []byte("\r\n\r\n"))
	if head < 0 {
		return r, false, nil
	}
	if head < 12 || !bytes.HasPrefix(b, []byte("HTTP/1.1 ")) {
		return r, false, errReply
	}
	if r.status, err = strconv.Atoi(string(b[9:12])); err != nil {
		return r, false, errReply
	}
	lines := b[:head+2]
	r.last = bytes.Contains(lines, []byte("\r\nConnection: close\r\n"))
	r.size = head + 4
	if value, found := header(lines, "\r\nContent-Length: "); found {
		n, err := strconv.Atoi(string(value))
		if err != nil || n < 0 {
			return r, false, errReply
		}
		r.size += n
	} else if _, chunked := header(lines, "\r\nTransfer-Encoding: "); chunked || r.status != 204 {
		// What is measured answers in a few bytes of known length.
		return r, false, errReply
	}
	return r, len(b) >= r.size, nil
}

// header is the value of a header in the form that net/http writes.
func header(lines []byte, name string) ([]byte, bool) {
	at := bytes.Index(lines, []byte(name))
	if at < 0 {
		return nil, false
	}
	value := lines[at+len(name):]
	return value[:bytes.IndexByte(value, '\r')], true
}
