package event

import (
	"cmp"
	"slices"
)

// growth says what joining did to the left side.
type growth uint8

const (
	// grew: it says something it did not say before.
	grew growth = 1 << iota
	// moved: only a time that helps to choose between events changed.
	moved
	// tried: an attempt to pay was told something new of. Once the order is paid no
	// status looks at it.
	tried
	// dropped: a bounded set let go of a member.
	dropped
)

// joinMap joins src into dst, key by key, and returns dst. More than limit keys
// are cut to the smallest: a key that is among the smallest of all keys was so at
// every step before, so its value is complete whatever the order of joining.
// Join must treat the zero V as nothing and must not return what it may change
// later and is part of b.
func joinMap[V any](dst, src map[string]V, limit int, join func(a, b V) (V, growth)) (map[string]V, growth) {
	var g growth
	if dst == nil && src != nil {
		dst = make(map[string]V, len(src))
	}
	for key, v := range src {
		if old, ok := dst[key]; ok {
			joined, h := join(old, v)
			dst[key] = joined
			g |= h
			continue
		}
		if len(dst) >= limit {
			g |= dropped
			largest := largestKey(dst)
			if key > largest {
				continue
			}
			delete(dst, largest)
		}
		var zero V
		joined, h := join(zero, v)
		dst[key] = joined
		if h&tried == 0 {
			h |= grew
		}
		g |= h
	}
	return dst, g
}

func largestKey[V any](m map[string]V) string {
	var largest string
	for key := range m {
		largest = max(largest, key)
	}
	return largest
}

// joinSet joins src into dst, both sorted by compare without equals, and returns
// dst. More than limit members are cut to the first.
func joinSet[T any](dst, src []T, limit int, compare func(a, b T) int) ([]T, growth) {
	var g growth
	for _, v := range src {
		at, found := slices.BinarySearchFunc(dst, v, compare)
		if found {
			continue
		}
		if at == limit {
			g |= dropped
			continue
		}
		if len(dst) == limit {
			g |= dropped
			dst = dst[:limit-1]
		}
		dst = slices.Insert(dst, at, v)
		g |= grew
	}
	return dst, g
}

// mark is an event's place in time. The zero At is an unknown time. A mark never
// changes, it is only replaced: orders may share it.
type mark struct {
	// At is in milliseconds since 1970.
	At int64  `json:"at_ms,omitempty"`
	ID string `json:"id,omitempty"`
}

// earlier keeps the minimum of (time, ID); an unknown time comes after all others.
// It never returns nil: it joins the values of a map, where the key alone says something.
func earlier(a, b *mark) (*mark, growth) {
	switch {
	case b == nil && a == nil:
		return &mark{}, 0
	case b == nil || a != nil && !b.before(*a):
		return a, 0
	}
	return b, moved
}

func (m mark) compare(n mark) int {
	return cmp.Or(cmp.Compare(m.At, n.At), cmp.Compare(m.ID, n.ID))
}

func (m mark) before(n mark) bool {
	if (m.At == 0) != (n.At == 0) {
		return n.At == 0
	}
	return m.compare(n) < 0
}

// firsts maps what events said (a currency, a customer) to the earliest that did.
type firsts map[string]*mark

func (f *firsts) join(other firsts, limit int) growth {
	joined, g := joinMap(*f, other, limit, earlier)
	*f = joined
	return g
}

// first is what the earliest event said, or "".
func (f firsts) first() string {
	var best string
	var at *mark
	for key, m := range f {
		if at == nil || m.before(*at) || *m == *at && key < best {
			best, at = key, m
		}
	}
	return best
}
