// Subscriber reads paybell's events in a group of its own and ships each order
// once. It uses go-redis alone; a service in Go that wants lanes, retries and dead
// letters embeds the package workers instead.
//
// It is set by environment variables: REDIS_URL, PREFIX, GROUP, CONSUMER, TAGS,
// STATE, MIN_IDLE_MS, and ONCE=1 to stop when nothing is left.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// allTags are the tags of 16 partitions; a consumer that reads only some of them
// owns those.
const allTags = "1768 20261 18360 41271 3453 11199 29098 8591 265 45842 13409 17891 46093 3635 2912 48623"

// event is what this service needs of the canonical event; members may be added
// to it at any time.
type event struct {
	ID      string `json:"event_id"`
	Type    string `json:"type"`
	Payment struct {
		OrderRef string `json:"order_ref"`
	} `json:"payment"`
}

type subscriber struct {
	redis           *redis.Client
	group, consumer string
	streams         []string
	state           string
	minIdle         time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	options, err := redis.ParseURL(cmp.Or(os.Getenv("REDIS_URL"), "redis://127.0.0.1:6379/0"))
	if err != nil {
		return err
	}
	idle, err := strconv.Atoi(cmp.Or(os.Getenv("MIN_IDLE_MS"), "60000"))
	if err != nil {
		return err
	}
	s := &subscriber{
		redis:    redis.NewClient(options),
		group:    cmp.Or(os.Getenv("GROUP"), "shipping"),
		consumer: cmp.Or(os.Getenv("CONSUMER"), "shipping-1"), // stable over restarts
		state:    cmp.Or(os.Getenv("STATE"), "shipments"),
		minIdle:  time.Duration(idle) * time.Millisecond,
	}
	defer s.redis.Close()
	for tag := range strings.FieldsSeq(cmp.Or(os.Getenv("TAGS"), allTags)) {
		s.streams = append(s.streams, cmp.Or(os.Getenv("PREFIX"), "paybell")+":{"+tag+"}:events")
	}
	if err := os.MkdirAll(s.state, 0o750); err != nil {
		return err
	}
	if err := s.createGroups(ctx); err != nil {
		return err
	}
	// First what we had in hand when we last stopped.
	for n := 1; n > 0; {
		if n, err = s.read(ctx, "0", -1); err != nil {
			return err
		}
	}
	once := os.Getenv("ONCE") == "1"
	block := 2 * time.Second
	if once {
		block = -1 // do not wait
	}
	for {
		if err := s.reclaim(ctx); err != nil {
			return err
		}
		n, err := s.read(ctx, ">", block)
		if err != nil || n == 0 && once {
			return err
		}
	}
}

func (s *subscriber) createGroups(ctx context.Context) error {
	for _, stream := range s.streams {
		// At 0, not at $: from the first event that is still kept.
		err := s.redis.XGroupCreateMkStream(ctx, stream, s.group, "0").Err()
		if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
			return err
		}
	}
	return nil
}

// read reads after start: ">" is what nobody was given yet, an id our own pending
// entries.
func (s *subscriber) read(ctx context.Context, start string, block time.Duration) (int, error) {
	args := &redis.XReadGroupArgs{Group: s.group, Consumer: s.consumer, Count: 100, Block: block}
	args.Streams = append(args.Streams, s.streams...)
	for range s.streams {
		args.Streams = append(args.Streams, start)
	}
	found, err := s.redis.XReadGroup(ctx, args).Result()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n := 0
	for _, stream := range found {
		if err := s.settle(ctx, stream.Stream, stream.Messages); err != nil {
			return n, err
		}
		n += len(stream.Messages)
	}
	return n, nil
}

// reclaim takes over what other consumers left behind for minIdle.
func (s *subscriber) reclaim(ctx context.Context) error {
	for _, stream := range s.streams {
		for cursor := "0-0"; ; {
			entries, next, err := s.redis.XAutoClaim(ctx, &redis.XAutoClaimArgs{
				Stream: stream, Group: s.group, Consumer: s.consumer, MinIdle: s.minIdle, Start: cursor, Count: 100,
			}).Result()
			if err != nil {
				return err
			}
			if len(entries) > 0 {
				fmt.Println("reclaimed", len(entries))
			}
			if err := s.settle(ctx, stream, entries); err != nil {
				return err
			}
			if cursor = next; cursor == "0-0" {
				break
			}
		}
	}
	return nil
}

func (s *subscriber) settle(ctx context.Context, stream string, entries []redis.XMessage) error {
	for _, entry := range entries {
		if entry.Values != nil { // nil: the entry is gone from the stream, and its event lost to us
			if schema := entry.Values["schema"]; schema != "payment-event/1" {
				return fmt.Errorf("unknown schema %v: this reader is too old", schema)
			}
			text, _ := entry.Values["event"].(string)
			var e event
			if err := json.Unmarshal([]byte(text), &e); err != nil {
				return fmt.Errorf("entry %s: %w", entry.ID, err)
			}
			if err := s.handle(e); err != nil {
				return err
			}
		}
		// Only now: a crash before this line brings the event again.
		if err := s.redis.XAck(ctx, stream, s.group, entry.ID).Err(); err != nil {
			return err
		}
	}
	return nil
}

// handle applies one event. The effect here is a file named by the event id;
// linking it into place is effect and dedup key in one step. In a service it is an
// INSERT in the same SQL transaction as the rest.
func (s *subscriber) handle(e event) error {
	temporary := filepath.Join(s.state, "."+e.ID+"."+strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(temporary, []byte(e.Payment.OrderRef), 0o600); err != nil {
		return err
	}
	defer os.Remove(temporary)
	word := "applied"
	if err := os.Link(temporary, filepath.Join(s.state, e.ID)); errors.Is(err, fs.ErrExist) {
		word = "duplicate"
	} else if err != nil {
		return err
	}
	fmt.Println(word, e.ID, e.Type, e.Payment.OrderRef)
	return nil
}
