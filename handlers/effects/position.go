package effects

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/paybell/paybell/workers"
)

// positions are, by partition, the last commits of a group that are known here: made by
// this process, or told by Redis when it began to run the partition.
type positions struct {
	mu    sync.Mutex
	known map[int]int64
}

// begin forgets a partition (position -1), or sets where it was.
func (p *positions) begin(partition int, position int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[int]int64{}
	}
	if delete(p.known, partition); position >= 0 {
		p.known[partition] = position
	}
}

func (p *positions) of(partition int) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[partition]
}

// commit notes what a commit has reached.
func (p *positions) commit(reached map[int]int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for part, position := range reached {
		if known, begun := p.known[part]; begun {
			p.known[part] = max(known, position)
		}
	}
}

// check reports the partitions in which a commit would not go beyond what is known: the
// database is not the one, or not as late a state of it, that had been committed to.
func (p *positions) check(reached map[int]int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var behind map[int]*workers.BehindError
	for part, position := range reached {
		if known := p.known[part]; position <= known {
			if behind == nil {
				behind = map[int]*workers.BehindError{}
			}
			behind[part] = &workers.BehindError{Position: position - 1, Settled: known}
		}
	}
	if behind == nil {
		return nil
	}
	return &behindError{behind}
}

// behindError names the partitions in which the database is behind.
type behindError struct{ parts map[int]*workers.BehindError }

// Error implements error.
func (e *behindError) Error() string {
	return fmt.Sprintf("effects: the database is behind in %d partitions: %v", len(e.parts), workers.ErrBehind)
}

// Unwrap returns what is true of each.
func (e *behindError) Unwrap() []error {
	out := make([]error, 0, len(e.parts))
	for _, part := range slices.Sorted(maps.Keys(e.parts)) {
		out = append(out, e.parts[part])
	}
	return out
}

// failBehind gives each delivery what is true of its partition: those that are not behind
// only had the wrong company.
func (b *batch) failBehind(orders [][]int, err *behindError) {
	for _, order := range orders {
		if behind := err.parts[b.ds[order[0]].Partition]; behind != nil {
			b.fail(order, behind)
		} else {
			b.fail(order, workers.Unavailable(err))
		}
	}
}

var _ workers.EffectStore = (*Handler)(nil)

// Begin implements workers.EffectStore.
func (h *Handler) Begin(partition int, position int64) { h.positions.begin(partition, position) }

// Position implements workers.EffectStore.
func (h *Handler) Position(partition int) int64 { return h.positions.of(partition) }

// Standings implements workers.EffectStore.
func (h *Handler) Standings(ctx context.Context) (map[int]workers.Standing, error) {
	out := map[int]workers.Standing{}
	err := h.store.Query(ctx, func(row Row) error {
		var part int
		var position, newest int64
		if err := row.Scan(&part, &position, &newest); err != nil {
			return err
		}
		s := workers.Standing{Position: position}
		if newest > 0 {
			s.Newest = time.UnixMilli(newest).UTC()
		}
		out[part] = s
		return nil
	}, `SELECT part, position, newest FROM effect_fences WHERE grp = $1`, h.group)
	if err != nil {
		return nil, fmt.Errorf("effects: positions of group %s: %w", h.group, err)
	}
	return out, nil
}

// entryTime is when an entry was appended, in milliseconds by Redis's clock: the first
// part of its id. 0 for what is no entry id.
func entryTime(id string) int64 {
	head, _, _ := strings.Cut(id, "-")
	ms, err := strconv.ParseInt(head, 10, 64)
	if err != nil {
		return 0
	}
	return ms
}
