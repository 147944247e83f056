package streams

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams/event"
)

// Owed are the events, by ID, that groups have not settled.
type Owed struct {
	// Live are unread, pending or parked.
	Live map[string]struct{}
	// Dead are dead letters.
	Dead map[string]struct{}
}

// owedPage is how many entries one command reads; they carry whole callbacks.
const owedPage = 100

// Owed reads what the given groups have not settled. Deliveries move while it reads,
// from unread to pending, parked and dead, and back by a replay, and it reads in that
// order, the dead ones at both ends: none is missed, some may be found twice. It
// reads every entry that is owed and is meant for the embedded engine.
func (s *Stats) Owed(ctx context.Context, groups []string) (Owed, error) {
	out := Owed{Live: make(map[string]struct{}), Dead: make(map[string]struct{})}
	for _, group := range groups {
		for i := range s.layout.Partitions() {
			for _, read := range []func(context.Context, int, string, *Owed) error{
				s.owedDead, s.owedUnread, s.owedPending, s.owedParked, s.owedDead,
			} {
				if err := read(ctx, i, group, &out); err != nil {
					return Owed{}, unavailable("streams: read what group "+group+" owes in partition "+strconv.Itoa(i), err)
				}
			}
		}
	}
	return out, nil
}

func (s *Stats) owedDead(ctx context.Context, partition int, group string, out *Owed) error {
	return s.each(ctx, s.layout.Dead(partition, group), "-", func(m redis.XMessage) {
		l := deadLetterOf(partition, m)
		out.Dead[l.Record.Event.ID] = struct{}{}
	})
}

func (s *Stats) owedUnread(ctx context.Context, partition int, group string, out *Owed) error {
	key := s.layout.Events(partition)
	infos, err := s.rdb.XInfoGroups(ctx, key).Result()
	if err != nil {
		if redis.HasErrorPrefix(err, "no such key") {
			return nil
		}
		return err
	}
	start := "-" // a group that is missing is created again at the start
	for _, info := range infos {
		if info.Name == group {
			start = nextID(info.LastDeliveredID)
		}
	}
	return s.each(ctx, key, start, func(m redis.XMessage) { out.addLive(m) })
}

func (s *Stats) owedPending(ctx context.Context, partition int, group string, out *Owed) error {
	key, start := s.layout.Events(partition), "-"
	for {
		pending, err := s.rdb.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: key, Group: group, Start: start, End: "+", Count: owedPage}).Result()
		if redis.HasErrorPrefix(err, "NOGROUP") || errors.Is(err, redis.Nil) || len(pending) == 0 && err == nil {
			return nil
		}
		if err != nil {
			return err
		}
		pipe := s.rdb.Pipeline()
		found := make([]*redis.XMessageSliceCmd, len(pending))
		for i, p := range pending {
			found[i] = pipe.XRange(ctx, key, p.ID, p.ID)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		for _, cmd := range found {
			for _, m := range cmd.Val() {
				out.addLive(m)
			}
		}
		start = nextID(pending[len(pending)-1].ID)
	}
}

func (s *Stats) owedParked(ctx context.Context, partition int, group string, out *Owed) error {
	parcels, err := s.rdb.HVals(ctx, s.layout.Parcels(partition, group)).Result()
	if err != nil {
		return err
	}
	for _, p := range parcels {
		// What somebody wrote there that is no parcel is no event either.
		if id, err := parcelEvent(p); err == nil {
			out.Live[id] = struct{}{}
		}
	}
	return nil
}

// each reads a stream from start to its end.
func (s *Stats) each(ctx context.Context, key, start string, do func(redis.XMessage)) error {
	for {
		page, err := s.rdb.XRangeN(ctx, key, start, "+", owedPage).Result()
		if err != nil {
			return err
		}
		for _, m := range page {
			do(m)
		}
		if len(page) < owedPage {
			return nil
		}
		start = nextID(page[len(page)-1].ID)
	}
}

func (o *Owed) addLive(m redis.XMessage) {
	id, _ := m.Values[event.FieldID].(string) // an entry that is none of ours has none
	o.Live[id] = struct{}{}
}

// parcelEvent is the event ID in a parcel (parcel.lua).
func parcelEvent(p string) (string, error) {
	bad := fmt.Errorf("streams: unreadable parcel of %d bytes", len(p))
	_, rest, _ := strings.Cut(p, " ")
	text, rest, ok := strings.Cut(rest, " ")
	n, err := strconv.Atoi(text)
	if !ok || err != nil || n < 0 || n > len(rest) {
		return "", bad
	}
	var name string
	for i := 0; ; i++ {
		rest = rest[n:]
		if text, rest, ok = strings.Cut(rest, ":"); !ok {
			return "", bad
		}
		if n, err = strconv.Atoi(text); err != nil || n < 0 || n > len(rest) {
			return "", bad
		}
		if i%2 == 1 && name == event.FieldID {
			return rest[:n], nil
		}
		name = rest[:n]
	}
}
