// Package send is a load generator for one machine that it shares with what it
// measures: one thread, epoll, requests that are whole before the clock starts, and
// of a reply no more is read than its status and its length. It only sends to
// loopback addresses.
//
// In a closed loop every connection sends its next request when the last one was
// answered; at a rate, requests leave when they are due, and a reply's time counts
// from then, so that a server that stands still is charged for all who wait.
package send

import (
	"bytes"
	"fmt"
	"strconv"
)

// List is a list of requests as the bytes that go over the wire.
type List struct {
	data []byte
	ends []int
}

// Len is how many requests there are.
func (l *List) Len() int { return len(l.ends) }

// At is request i. It is not to be changed.
func (l *List) At(i int) []byte {
	start := 0
	if i > 0 {
		start = l.ends[i-1]
	}
	return l.data[start:l.ends[i]:l.ends[i]]
}

// Head is the first n requests, or all of them.
func (l *List) Head(n int) *List {
	return &List{data: l.data, ends: l.ends[:min(n, len(l.ends))]}
}

// Body is the body of request i.
func (l *List) Body(i int) []byte {
	_, body, _ := bytes.Cut(l.At(i), []byte("\r\n\r\n"))
	return body
}

// Join puts lists one after another.
func Join(lists ...*List) *List {
	out := &List{}
	for _, l := range lists {
		for _, end := range l.ends {
			out.ends = append(out.ends, len(out.data)+end)
		}
		out.data = append(out.data, l.data...)
	}
	return out
}

// Post adds a POST request. headers are whole lines, each with its end.
func (l *List) Post(path, headers string, body []byte) {
	l.data = append(l.data, "POST "...)
	l.data = append(l.data, path...)
	l.data = append(l.data, " HTTP/1.1\r\nHost: 127.0.0.1\r\n"...)
	l.data = append(l.data, headers...)
	l.data = append(l.data, "Content-Length: "...)
	l.data = strconv.AppendInt(l.data, int64(len(body)), 10)
	l.data = append(l.data, "\r\n\r\n"...)
	l.data = append(l.data, body...)
	l.ends = append(l.ends, len(l.data))
}

// Altered is a list of request i alone, with the last digit of its body changed
// after it was signed.
func (l *List) Altered(i int) (*List, error) {
	raw := bytes.Clone(l.At(i))
	at := bytes.LastIndexAny(raw, "0123456789")
	if body := bytes.Index(raw, []byte("\r\n\r\n")); at < body {
		return nil, fmt.Errorf("request %d has no digit to change", i)
	}
	raw[at] ^= 1 // another digit
	return &List{data: raw, ends: []int{len(raw)}}, nil
}
