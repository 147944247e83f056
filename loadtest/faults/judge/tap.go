package judge

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Group is the group that a Tap reads with. It has to be declared, so that nothing is
// trimmed before the tap has seen it.
const Group = "judge"

// Tap is a service that reads all the streams, as docs/subscribing.md tells it to, and
// remembers what stood in them. It goes on after every failure of Redis.
type Tap struct {
	rdb    *redis.Client
	prefix string

	mu sync.Mutex
	// seen are the entries by key and id; entries those of an event.
	seen    map[string]bool
	entries map[string][]place
	orders  map[string]string // order reference by event id
	// conflicts are the ids under which other facts of an event were kept, by that
	// event's id.
	conflicts map[string][]string
	life      int
}

// place is an entry of an event, in one life of Redis's memory.
type place struct {
	key, id string
	life    int
}

// NewTap returns a tap on the server at addr that has not read yet.
func NewTap(addr, prefix string) *Tap {
	return &Tap{
		rdb:    redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1, ReadTimeout: 5 * time.Second}),
		prefix: prefix, seen: map[string]bool{}, entries: map[string][]place{}, orders: map[string]string{},
		conflicts: map[string][]string{},
	}
}

// Flushed says that Redis is about to lose its memory: events that come again after it
// are no second entries.
func (t *Tap) Flushed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.life++
}

// Run reads until ctx ends.
func (t *Tap) Run(ctx context.Context) error {
	defer t.rdb.Close()
	pending := true
	for ctx.Err() == nil {
		err := t.read(ctx, pending)
		// Entries may have been delivered in an answer that never came.
		pending = err != nil
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

// read reads a page of every stream: what is pending for this reader, or what is new.
func (t *Tap) read(ctx context.Context, pending bool) error {
	keys, err := t.rdb.Keys(ctx, t.prefix+":*:events").Result()
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return redis.Nil
	}
	slices.Sort(keys)
	for _, key := range keys {
		if err := t.rdb.XGroupCreate(ctx, key, Group, "0").Err(); err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
			return err
		}
	}
	from, block := ">", 200*time.Millisecond
	if pending {
		from, block = "0", -1
	}
	for {
		args := slices.Clone(keys)
		for range keys {
			args = append(args, from)
		}
		page, err := t.rdb.XReadGroup(ctx, &redis.XReadGroupArgs{Group: Group, Consumer: Group, Streams: args, Count: 500, Block: block}).Result()
		if err == redis.Nil { //nolint:errorlint // go-redis returns it as it is
			return nil
		}
		if err != nil {
			return err
		}
		n, err := t.take(ctx, page)
		if err != nil || n == 0 {
			return err
		}
	}
}

func (t *Tap) take(ctx context.Context, page []redis.XStream) (n int, err error) {
	pipe := t.rdb.Pipeline()
	for _, stream := range page {
		var ids []string
		for _, m := range stream.Messages {
			t.note(stream.Stream, m)
			ids = append(ids, m.ID)
		}
		if n += len(ids); len(ids) > 0 {
			pipe.XAck(ctx, stream.Stream, Group, ids...)
		}
	}
	_, err = pipe.Exec(ctx)
	return n, err
}

func (t *Tap) note(key string, m redis.XMessage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := key + " " + m.ID
	event, _ := m.Values["id"].(string)
	if t.seen[at] || event == "" { // an entry that was deleted comes without its fields
		return
	}
	t.seen[at] = true
	t.entries[event] = append(t.entries[event], place{key, m.ID, t.life})
	t.orders[event], _ = m.Values["order"].(string)
	if m.Values["type"] == "conflict" {
		var e struct {
			Of string `json:"conflict_of"`
		}
		text, _ := m.Values["event"].(string)
		// One that cannot be read is of no event, and so of none that was sent.
		_ = json.Unmarshal([]byte(text), &e)
		t.conflicts[e.Of] = append(t.conflicts[e.Of], event)
	}
}

// first is the first entry id of an event, "" when none was seen.
func (t *Tap) first(event string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at := t.entries[event]; len(at) > 0 {
		return at[0].id
	}
	return ""
}

// count is how many entries were seen in this life of Redis's memory.
func (t *Tap) count() (n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, at := range t.entries {
		for _, p := range at {
			if p.life == t.life {
				n++
			}
		}
	}
	return n
}

// judgeStream compares what stood in the streams with what was accepted.
func (c *court) judgeStream(context.Context) error {
	t := c.Tap
	t.mu.Lock()
	defer t.mu.Unlock()
	for of, ids := range t.conflicts {
		if !c.conflicts[of] {
			c.other("%v are conflicts of %q, which nobody sent", ids, of)
		}
	}
	for id, f := range c.facts {
		if len(t.entries[id]) == 0 && !c.destroyed(id) {
			c.lost("no entry of %s (%s, order %s)", id, f.Type, f.Order)
		}
	}
	for id, at := range t.entries {
		if c.facts[id] == nil && !c.keptConflict(id) && !strings.Contains(t.orders[id], c.Forged) {
			c.other("%s is in the stream, and nobody was told that it was accepted", id)
		}
		for i := 1; i < len(at); i++ {
			if at[i].life == at[i-1].life {
				c.verdict.Twice = append(c.verdict.Twice, id+" has the entries "+at[i-1].id+" and "+at[i].id)
			}
		}
		if strings.Contains(t.orders[id], c.Forged) {
			c.verdict.ForgedAccepted = append(c.verdict.ForgedAccepted, id+" is in the stream")
		}
	}
	for order, facts := range c.orders {
		if !facts[0].Pinned {
			continue
		}
		facts = slices.SortedFunc(slices.Values(facts), func(a, b *fact) int { return a.Seq - b.Seq })
		for i := 1; i < len(facts); i++ {
			before, after := t.entries[facts[i-1].event], t.entries[facts[i].event]
			if len(before) > 0 && len(after) > 0 && later(before[0].id, after[0].id) {
				c.verdict.OutOfOrder = append(c.verdict.OutOfOrder, order+": accepted one after another, appended the other way round")
			}
		}
	}
	return nil
}
