package streams

import (
	"slices"
	"sort"

	"github.com/paybell/paybell/streams/event"
)

// stretchesKept is in how many places of one stream groups may read side by side.
const stretchesKept = 4

// stretch is entries that stand one after another in a stream.
type stretch struct {
	after   position // of the entry before the first
	entries []fed
	bytes   int
}

// fed is an entry that was read. err says why its fields are no record.
type fed struct {
	id     string
	at     position
	record event.Record
	err    error
	bytes  int
}

// find returns what is known to follow an entry; mu is held.
func (p *feedPart) find(from position) []fed {
	for i, s := range p.stretches {
		if s.after.less(from) || s.after == from {
			n := 0
			if s.after != from {
				n = sort.Search(len(s.entries), func(i int) bool { return !s.entries[i].at.less(from) })
				if n == len(s.entries) || s.entries[n].at != from {
					continue
				}
				n++
			}
			if n == len(s.entries) {
				continue
			}
			last := len(p.stretches) - 1
			p.stretches[i], p.stretches[last] = p.stretches[last], s
			return s.entries[n:len(s.entries):len(s.entries)]
		}
	}
	return nil
}

// keep keeps entries that follow from, as far as about bound bytes of the partition go;
// mu is held.
func (p *feedPart) keep(from position, read []fed, bytes, bound int) {
	var s *stretch
	for _, known := range p.stretches {
		if n := len(known.entries); n > 0 && known.entries[n-1].at == from {
			s = known
		}
	}
	if s == nil {
		if len(p.stretches) == stretchesKept {
			p.stretches = slices.Delete(p.stretches, 0, 1)
		}
		s = &stretch{after: from}
		p.stretches = append(p.stretches, s)
	}
	s.entries, s.bytes = append(s.entries, read...), s.bytes+bytes
	others := 0
	for _, known := range p.stretches {
		others += known.bytes
	}
	others -= s.bytes
	// What was used longest ago goes first.
	for i := 0; others > 0 && others+s.bytes > bound; {
		if p.stretches[i] == s {
			i++
			continue
		}
		others -= p.stretches[i].bytes
		p.stretches = slices.Delete(p.stretches, i, i+1)
	}
	s.shrink(len(read), bound)
	if len(s.entries) == 0 {
		p.stretches = slices.DeleteFunc(p.stretches, func(known *stretch) bool { return known == s })
	}
}

// shrink drops entries until about bound bytes are left: those before the last fresh ones,
// which were kept for longest, and then the last, which the other groups come to last.
func (s *stretch) shrink(fresh, bound int) {
	first, end := 0, len(s.entries)
	for ; first < end-fresh && s.bytes > bound; first++ {
		s.bytes -= s.entries[first].bytes
	}
	for ; end > first && s.bytes > bound; end-- {
		s.bytes -= s.entries[end-1].bytes
	}
	if first == 0 && end == len(s.entries) {
		return
	}
	if first > 0 {
		s.after = s.entries[first-1].at
	}
	// The array is another's, too: a reader may still hold a part of it.
	s.entries = append(make([]fed, 0, 2*(end-first)), s.entries[first:end]...)
}

// learn remembers how large entries are; mu is held. Growth counts at once, because it
// is what the bound is for; shrinking slowly.
func (p *feedPart) learn(bytes, entries int) {
	if entries > 0 {
		size := bytes / entries
		p.entryBytes = max(size, (3*p.entryBytes+size)/4)
	}
}

// parseEntries decodes the entries of an answer; what is none is left out.
func parseEntries(list []any) []fed {
	out := make([]fed, 0, len(list))
	for _, v := range list {
		pair, ok := v.([]any)
		if !ok || len(pair) != 2 {
			continue
		}
		var e fed
		e.id, _ = pair[0].(string) // an id is always text
		if e.at, ok = parseID(e.id); !ok {
			continue
		}
		fields, _ := pair[1].([]any) // no fields are no record
		e.bytes = size(fields)
		if e.record, e.err = event.ParseRecordValues(fields); e.err != nil {
			e.record = event.Record{}
		}
		out = append(out, e)
	}
	return out
}

// cutBytes cuts entries to at most limit, of about that many bytes and one at least.
func cutBytes(es []fed, limit, bytes int) []fed {
	n, sum := 0, 0
	for n < min(limit, len(es)) {
		if sum += es[n].bytes; n > 0 && bytes > 0 && sum > bytes {
			break
		}
		n++
	}
	return es[:n:n]
}
