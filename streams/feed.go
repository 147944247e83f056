package streams

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/semaphore"
)

// Feed reads the streams for the groups of one process. An entry is fetched and decoded
// once, however many groups it is delivered to, and a single command waits for the
// entries of all partitions. It moves nothing: what it has read is delivered by the
// fenced script of a Lease. It is safe for concurrent use.
type Feed struct {
	rdb    Client
	layout Layout
	block  time.Duration
	bounds feedBounds
	// answers is what of bounds.answers is not on its way.
	answers *semaphore.Weighted

	mu    sync.Mutex
	parts []feedPart
	reads sync.WaitGroup
	// largest is how large an entry may be, as far as known.
	largest int
	// closed ends the pauses between reads.
	closed chan struct{}
	close  sync.Once
}

// feedPart is one stream, as far as it is known.
type feedPart struct {
	stretches []*stretch // the one used last at the end
	// tail is the last entry that was seen, where the wait for more goes on; "" where
	// nothing is known.
	tail string
	// forgotten is how often all that was known of the stream was dropped: what was asked
	// for before may be another stream's.
	forgotten int
	// covered: a blocked read includes it. wanted is when somebody last waited for it,
	// ahead how many entries were read since, aheadBytes how large they are.
	covered    bool
	wanted     time.Time
	ahead      int
	aheadBytes int
	news       *news
	// entryBytes is about how large an entry is.
	entryBytes int
}

// asked is what a wait has asked for: what follows tail, as of when forgotten was as it
// was.
type asked struct {
	partition int
	tail      string
	forgotten int
}

// news is told once: there is something to read, or err.
type news struct {
	told chan struct{}
	err  error
}

// feedBounds are in bytes of entries: what is kept of one partition, what may be on its
// way for groups that ask, and what one wait for news may bring.
type feedBounds struct{ kept, answers, waits int }

const (
	// feedBytes is what a Feed may hold where nobody says.
	feedBytes = 72 << 20
	// mostKept bounds what is kept of all partitions, however much the Feed may hold.
	mostKept = 8 << 20
	// largestEntry is how large an entry is expected to be at most until a larger one was
	// seen: a callback of the largest size that a gateway takes by default.
	largestEntry = 256 << 10
	// feedAhead is how many entries of a partition are read that nobody has asked for.
	feedAhead = 256
	// feedGather is how long the first wait lets others join it.
	feedGather = 5 * time.Millisecond
	// feedEvery is the least time between two waits: entries that come close together
	// are read together, and one that comes alone is read at once.
	feedEvery = 5 * time.Millisecond
	// feedPage is how many entries of a partition one wait brings at most.
	feedPage = 128
)

// NewFeed returns the feed of a process. The caller closes the client, which ends every
// wait, and then the Feed.
func NewFeed(rdb Client, layout Layout, block time.Duration) *Feed {
	f := &Feed{
		rdb: rdb, layout: layout, block: block, largest: largestEntry,
		parts: make([]feedPart, layout.Partitions()), closed: make(chan struct{}),
	}
	f.Bound(feedBytes)
	return f
}

// Bound sets about how many bytes of entries the Feed may hold: a third of it is kept for
// the groups, the rest may be on its way from Redis. How large an entry is Redis tells only
// by sending it, so a read is as small as if every entry were as large as the largest one.
// Three entries of each partition are held whatever the bound. It is set before the Feed
// is used.
func (f *Feed) Bound(bytes int64) {
	kept := min(bytes/3, mostKept)
	way := int((bytes - kept) / 2)
	f.bounds = feedBounds{kept: int(kept) / len(f.parts), answers: way, waits: way}
	f.answers = semaphore.NewWeighted(int64(way))
}

// await returns when up to count entries, the largest there may be, may be on their way,
// and how many may. done is called when they are here.
func (f *Feed) await(ctx context.Context, count int) (n int, done func(), err error) {
	f.mu.Lock()
	largest := f.largest
	f.mu.Unlock()
	n = max(1, min(count, f.bounds.answers/largest))
	bytes := int64(min(n*largest, f.bounds.answers))
	if err := f.answers.Acquire(ctx, bytes); err != nil {
		return 0, nil, unavailable("streams: read entries", context.Cause(ctx))
	}
	return n, func() { f.answers.Release(bytes) }, nil
}

// Close waits for reads that nobody waits for any more; they end within the block time,
// or at once when the client is closed before.
func (f *Feed) Close() {
	f.close.Do(func() { close(f.closed) })
	f.reads.Wait()
}

// after returns at most max entries that follow an entry, of about maxBytes.
func (f *Feed) after(ctx context.Context, partition int, id string, max, maxBytes int) ([]fed, error) {
	from, ok := parseID(id)
	if !ok {
		return nil, fmt.Errorf("streams: %q is no entry id", id)
	}
	f.mu.Lock()
	p := &f.parts[partition]
	p.ahead, p.aheadBytes = 0, 0
	out := p.find(from)
	f.mu.Unlock()
	if len(out) > 0 {
		return cutBytes(out, max, maxBytes), nil
	}
	bytes := 0
	for {
		want := f.count(partition, max-len(out), maxBytes-bytes)
		read, asked, err := f.fetch(ctx, partition, id, want)
		if err != nil {
			return nil, err
		}
		out = append(out, read...)
		for i := range read {
			bytes += read[i].bytes
		}
		// Less than was asked for is all there is.
		if len(read) < asked || asked == want || len(out) >= max || maxBytes > 0 && bytes >= maxBytes {
			return cutBytes(out, max, maxBytes), nil
		}
		id = read[len(read)-1].id
	}
}

// fetch reads entries that follow an entry: want, or as many as may be on their way, which
// it returns, too.
func (f *Feed) fetch(ctx context.Context, partition int, id string, want int) (read []fed, asked int, err error) {
	asked, done, err := f.await(ctx, want)
	if err != nil {
		return nil, 0, err
	}
	defer done()
	f.mu.Lock()
	p := &f.parts[partition]
	tail, forgotten := p.tail, p.forgotten
	f.mu.Unlock()
	cmd := redis.NewSliceCmd(ctx, "xrange", f.layout.Events(partition), nextID(id), "+", "count", asked)
	_ = f.rdb.Process(ctx, cmd) // the command keeps its error
	list, err := cmd.Result()
	if err != nil {
		return nil, 0, unavailable("streams: read entries", err)
	}
	read = parseEntries(list)
	from, _ := parseID(id) // after has read it
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case p.forgotten != forgotten:
	case len(read) > 0:
		f.keep(p, from, read)
		p.tail = laterID(p.tail, read[len(read)-1].id)
	case p.tail == tail:
		// What had been seen beyond it is not there: the stream is another one.
		p.tail = id
	}
	return read, asked, nil
}

// entries returns those of the entries that the stream has now, by id, and how many of the
// ids it has looked at: all, or as many as bring maxBytes. ids rise.
func (f *Feed) entries(ctx context.Context, partition int, ids []string, maxBytes int) (there map[string]fed, n int, err error) {
	there, bytes := make(map[string]fed, len(ids)), 0
	for n < len(ids) && (n == 0 || maxBytes == 0 || bytes < maxBytes) {
		asked, done, err := f.await(ctx, len(ids)-n)
		if err != nil {
			return nil, 0, err
		}
		page := ids[n : n+asked]
		err = f.fetchIDs(ctx, partition, page, there)
		done()
		if err != nil {
			return nil, 0, err
		}
		for _, id := range page {
			bytes += there[id].bytes
		}
		n += asked
	}
	return there, n, nil
}

// fetchIDs adds what the stream has of the ids to out.
func (f *Feed) fetchIDs(ctx context.Context, partition int, ids []string, out map[string]fed) error {
	missing := func() []string {
		return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { _, ok := out[id]; return ok })
	}
	// They mostly stand together; those that do not are asked for one by one.
	key, left := f.layout.Events(partition), ids
	cmds := []*redis.SliceCmd{redis.NewSliceCmd(ctx, "xrange", key, left[0], left[len(left)-1], "count", len(left))}
	for {
		pipe := f.rdb.Pipeline()
		for _, cmd := range cmds {
			_ = pipe.Process(ctx, cmd) // it only queues
		}
		_, _ = pipe.Exec(ctx) // says what the first failed command says; all are looked at
		for _, cmd := range cmds {
			list, err := cmd.Result()
			if err != nil {
				return unavailable("streams: read entries", err)
			}
			read := parseEntries(list)
			for i := range read {
				out[read[i].id] = read[i]
			}
			f.learn(partition, read)
		}
		if len(cmds) > 1 || len(left) == 1 {
			return nil
		}
		if left = missing(); len(left) == 0 {
			return nil
		}
		cmds = cmds[:0]
		for _, id := range left {
			cmds = append(cmds, redis.NewSliceCmd(ctx, "xrange", key, id, id))
		}
	}
}

func (f *Feed) learn(partition int, read []fed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heed(&f.parts[partition], read)
}

// heed remembers how large entries are; mu is held.
func (f *Feed) heed(p *feedPart, read []fed) (bytes int) {
	for i := range read {
		bytes += read[i].bytes
		f.largest = max(f.largest, read[i].bytes)
	}
	p.learn(bytes, len(read))
	return bytes
}

// keep keeps what follows an entry, as far as the bound allows; mu is held.
func (f *Feed) keep(p *feedPart, from position, read []fed) {
	p.keep(from, read, f.heed(p, read), f.bounds.kept)
}

// count lowers limit so that about that many bytes come.
func (f *Feed) count(partition, limit, bytes int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size := f.parts[partition].entryBytes; bytes > 0 && size > 0 {
		limit = min(limit, bytes/size)
	}
	return max(1, limit)
}

// forget drops what is known of a stream.
func (f *Feed) forget(partition int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.parts[partition]
	p.stretches, p.tail = nil, ""
	p.forgotten++
}

// wait returns when the stream may have entries after id, after the block time, or when
// ctx ends. With poll it asks from time to time instead of waiting inside the server: the
// embedded engine wakes every blocked reader for every command, and each then walks its
// whole stream.
func (f *Feed) wait(ctx context.Context, partition int, id string, poll bool) error {
	if id == "" {
		id = "0-0"
	}
	from, _ := parseID(id) // entry ids are Redis's own
	f.mu.Lock()
	p := &f.parts[partition]
	p.wanted, p.ahead, p.aheadBytes = time.Now(), 0, 0
	if tail, ok := parseID(p.tail); ok && from.less(tail) {
		f.mu.Unlock()
		return nil
	}
	p.tail = id
	if p.news == nil {
		p.news = &news{told: make(chan struct{})}
	}
	n := p.news
	if !p.covered {
		p.covered = true
		f.reads.Go(func() { f.read(context.WithoutCancel(ctx), partition, poll) })
	}
	f.mu.Unlock()
	timer := time.NewTimer(f.block)
	defer timer.Stop()
	select {
	case <-n.told:
		return n.err
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Pauses of an engine that is not waited inside of.
const (
	pauseLeast = 10 * time.Millisecond
	pauseMost  = 250 * time.Millisecond
)

// read waits for entries of a partition, and of all others that are wanted when it
// begins, for as long as any of them is.
func (f *Feed) read(ctx context.Context, first int, poll bool) {
	f.pause(feedGather)
	partitions := f.cover(first)
	var pause time.Duration
	for len(partitions) > 0 {
		started := time.Now()
		goes := f.ask(partitions)
		found, err := f.blockedRead(ctx, goes, poll)
		if redis.HasErrorPrefix(err, "WRONGTYPE") && len(partitions) > 1 {
			// Somebody overwrote one of the streams; it must not hold up the others.
			for _, i := range partitions[1:] {
				f.reads.Go(func() { f.alone(ctx, i, poll) })
			}
			partitions = partitions[:1]
			continue
		}
		if partitions = f.tell(goes, found, err); err != nil {
			return
		}
		switch {
		case !poll:
			pause = feedEvery - time.Since(started)
		case len(found) > 0:
			pause = pauseLeast
		default:
			pause = min(max(pauseLeast, 2*pause), pauseMost)
		}
		f.pause(pause)
	}
}

// pause waits, or until the feed is closed.
func (f *Feed) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.closed:
	}
}

// alone is read for a partition of a stream that may be none.
func (f *Feed) alone(ctx context.Context, partition int, poll bool) {
	partitions := []int{partition}
	for len(partitions) > 0 {
		goes := f.ask(partitions)
		found, err := f.blockedRead(ctx, goes, poll)
		if partitions = f.tell(goes, found, err); err != nil {
			return
		}
		f.pause(feedEvery)
	}
}

// cover returns first and every other partition that is wanted and not covered, which
// they are from now on.
func (f *Feed) cover(first int) []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []int{first}
	for i := range f.parts {
		if p := &f.parts[i]; !p.covered && p.news != nil {
			p.covered = true
			out = append(out, i)
		}
	}
	return out
}

// ask returns what the next wait for the partitions asks for.
func (f *Feed) ask(partitions []int) []asked {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]asked, len(partitions))
	for i, n := range partitions {
		out[i] = asked{n, f.parts[n].tail, f.parts[n].forgotten}
	}
	return out
}

// tell hands out what one read has found, and returns which partitions to go on with.
func (f *Feed) tell(partitions []asked, found map[int][]fed, err error) []int {
	if err != nil {
		err = unavailable("streams: wait for entries", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	on := make([]int, 0, len(partitions))
	for _, a := range partitions {
		p := &f.parts[a.partition]
		read := found[a.partition]
		// They follow the entry that was asked for, and no other: what is kept behind a
		// wrong one would hide all that stands in between from whoever has it delivered.
		from, _ := parseID(a.tail) // as in wait
		if len(read) > 0 && a.tail != "" && a.tail == p.tail && a.forgotten == p.forgotten {
			f.keep(p, from, read)
			p.tail = read[len(read)-1].id
			p.ahead += len(read)
			for i := range read {
				p.aheadBytes += read[i].bytes
			}
		}
		if p.news != nil && (err != nil || len(read) > 0) {
			p.news.err = err
			close(p.news.told)
			p.news = nil
		}
		if err == nil && p.tail != "" && p.ahead < feedAhead && p.aheadBytes < f.bounds.kept && time.Since(p.wanted) < 2*f.block {
			on = append(on, a.partition)
		} else {
			p.covered = false
			if p.news != nil { // whoever waits looks for himself
				close(p.news.told)
				p.news = nil
			}
		}
	}
	return on
}

// page is how many entries of each partition a wait may bring.
func (f *Feed) page() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(1, min(feedPage, f.bounds.waits/(f.largest*len(f.parts))))
}

// blockedRead is one XREAD of the partitions, from where each was seen last.
func (f *Feed) blockedRead(ctx context.Context, partitions []asked, poll bool) (map[int][]fed, error) {
	args := make([]any, 0, 6+2*len(partitions))
	args = append(args, "xread", "count", f.page())
	if !poll {
		args = append(args, "block", f.block.Milliseconds())
	}
	args = append(args, "streams")
	byKey := make(map[string]int, len(partitions))
	for _, a := range partitions {
		key := f.layout.Events(a.partition)
		byKey[key] = a.partition
		args = append(args, key)
	}
	for _, a := range partitions {
		args = append(args, cmp.Or(a.tail, "$"))
	}
	cmd := redis.NewCmd(ctx, args...)
	if !poll {
		cmd.SetFirstKeyPos(5)
	}
	_ = f.rdb.Process(ctx, cmd) // the command keeps its error
	reply, err := cmd.Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := make(map[int][]fed, len(partitions))
	each := func(key, entries any) {
		name, _ := key.(string)    // a key is text
		list, _ := entries.([]any) // entries are a list
		if i, ok := byKey[name]; ok {
			found[i] = parseEntries(list)
		}
	}
	switch reply := reply.(type) { // by the version of the protocol
	case map[any]any:
		for key, entries := range reply {
			each(key, entries)
		}
	case []any:
		for _, v := range reply {
			if pair, ok := v.([]any); ok && len(pair) == 2 {
				each(pair[0], pair[1])
			}
		}
	}
	return found, nil
}
