package streams

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// position is an entry id as numbers: milliseconds, and a number within them.
type position struct{ ms, seq uint64 }

// parseID reads an entry id; "" and "0" are before every entry.
func parseID(id string) (position, bool) {
	if id == "" {
		return position{}, true
	}
	head, tail, both := strings.Cut(id, "-")
	ms, err := strconv.ParseUint(head, 10, 64)
	if err != nil {
		return position{}, false
	}
	if !both {
		return position{ms: ms}, true
	}
	seq, err := strconv.ParseUint(tail, 10, 64)
	return position{ms, seq}, err == nil
}

func (p position) less(q position) bool {
	return p.ms < q.ms || p.ms == q.ms && p.seq < q.seq
}

func (p position) String() string {
	return strconv.FormatUint(p.ms, 10) + "-" + strconv.FormatUint(p.seq, 10)
}

// laterID is the later of two entry ids; one that cannot be read loses.
func laterID(a, b string) string {
	p, okA := parseID(a)
	q, okB := parseID(b)
	if !okB || okA && q.less(p) {
		return a
	}
	return b
}

// nextID is the id just after id: an inclusive start for what the exclusive "("
// would do, which one engine does not know.
func nextID(id string) string {
	p, ok := parseID(id)
	switch {
	case !ok || id == "":
		return "-"
	case p.seq < math.MaxUint64:
		p.seq++
	default:
		p = position{ms: p.ms + 1}
	}
	return p.String()
}

// before is the id just before p; the first one stays.
func (p position) before() position {
	switch {
	case p.seq > 0:
		p.seq--
	case p.ms > 0:
		p = position{ms: p.ms - 1, seq: math.MaxUint64}
	}
	return p
}

// timeOf is when an entry was appended, by Redis's clock; zero for none.
func timeOf(id string) time.Time {
	p, ok := parseID(id)
	if !ok || p.ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(p.ms)).UTC() //nolint:gosec // no time is that late
}
