package streams

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/paybell/paybell/streams/event"
)

// Writer appends records in groups: a lane takes what waits, sends it as one script
// call, waits for the answer, releases the callers and takes what has come in the
// meantime. There is no timer: a lone record is sent at once, and the busier the
// door, the larger the batches.
type Writer struct {
	rdb    Client
	layout Layout
	guard  func() error
	// deployment is nil where the number of partitions is never changed.
	deployment *Deployment
	sections   sections
	o          WriterOptions
	m          *writerMetrics
	// apart is set once the server has shown that it is part of a cluster, where a
	// call takes the keys of one partition alone.
	apart atomic.Bool

	mu      sync.Mutex
	ready   sync.Cond // signalled for every call put in, and at the end
	calls   []*call   // first in, first out, from head
	head    int
	records int
	bytes   int
	stopped bool
}

// call is the part of an Append that one lane sends.
type call struct {
	ctx     context.Context //nolint:containedctx // whether the caller still waits decides whether to send
	records []record
	bytes   int
	done    chan struct{}
	err     error
}

// record is a record as it is sent, and what became of it.
type record struct {
	call        *call
	section     *section
	wire        event.Wire
	mark        [markSize]byte
	undecodable bool
	outcome     event.Appended
	err         error
}

// NewWriter returns a writer that sends once Run runs. The caller keeps rdb,
// which must not retry by itself (NewWriteClient), and closes it after Run.
func NewWriter(rdb Client, layout Layout, o WriterOptions, reg prometheus.Registerer) *Writer {
	w := &Writer{
		rdb: rdb, layout: layout, o: o, m: newWriterMetrics(reg),
		sections: sections{layout: layout, known: make(map[seenPlace]*section)},
	}
	w.ready.L = &w.mu
	return w
}

// Guard makes Append ask first, and return what check returns instead of sending:
// a server that no longer keeps what it confirms must not confirm anything. It is
// set before Run.
func (w *Writer) Guard(check func() error) { w.guard = check }

// Belongs makes the writer keep to the gates of a deployment, and recognise resends of
// what was appended before a change of the number of partitions. It is called before Run.
func (w *Writer) Belongs(d *Deployment) { w.deployment = d }

// Run sends what Append is given until ctx ends; what waits then is still sent,
// later Appends get ErrStopped. Stop the door before the writer.
func (w *Writer) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		w.mu.Lock()
		w.stopped = true
		w.mu.Unlock()
		w.ready.Broadcast()
	})
	defer stop()
	// A batch on its way belongs to its callers, who may outlive ctx; the client's
	// own timeouts bound it.
	sendCtx := context.WithoutCancel(ctx)
	var lanes errgroup.Group
	for range max(1, w.o.Connections) {
		lanes.Go(func() error {
			w.lane(sendCtx)
			return nil
		})
	}
	return lanes.Wait()
}

// Append makes the records durable in Redis, in order, and returns what became
// of each: all of them, or an error. They are the events of one callback; window
// is how long a redelivery of them is recognised. Appending again what was
// appended before changes nothing, and completes what was appended in part.
//
// After an error any of the records may have been appended, or may still be:
// their bytes must not be changed. Errors are ErrOverloaded, ErrStopped, or wrap
// ErrUnavailable; anything else is a record that cannot be encoded.
func (w *Writer) Append(ctx context.Context, window time.Duration, records []event.Record) ([]event.Appended, error) {
	if err := w.allowed(); err != nil {
		return nil, err
	}
	encoded, err := w.encode(window, records)
	if err != nil {
		return nil, err
	}
	out := make([]event.Appended, 0, len(records))
	for len(encoded) > 0 {
		n := distinct(encoded)
		if out, err = w.append(ctx, window, records[:n], encoded[:n], out); err != nil {
			return nil, err
		}
		records, encoded = records[n:], encoded[n:]
	}
	return out, nil
}

// allowed asks the guard.
func (w *Writer) allowed() error {
	if w.guard == nil {
		return nil
	}
	if err := w.guard(); err != nil {
		return unavailable("streams: append", err)
	}
	return nil
}

// distinct is how many records from the first on are of different ordering keys. Those
// of one key go one after another: what is refused in the middle of a batch would
// otherwise be overtaken by what follows.
func distinct(records []record) int {
	if len(records) == 1 {
		return 1
	}
	seen := make(map[string]struct{}, len(records))
	for i := range records {
		key := records[i].wire.Key()
		if _, again := seen[key]; again {
			return i
		}
		seen[key] = struct{}{}
	}
	return len(records)
}

// append appends records of different ordering keys and adds what became of each to out.
func (w *Writer) append(ctx context.Context, window time.Duration, records []event.Record, encoded []record, out []event.Appended) ([]event.Appended, error) {
	if err := w.commit(ctx, encoded); err != nil {
		return nil, err
	}
	var again []event.Record
	for i := range encoded {
		outcome := encoded[i].outcome
		out = append(out, outcome)
		if outcome == event.Conflicting {
			r := records[i]
			r.Event = r.Event.AsConflict()
			again = append(again, r)
		}
	}
	if len(again) == 0 {
		return out, nil
	}
	return out, w.appendConflicts(ctx, window, again)
}

// appendConflicts appends conflicts under IDs of their own. Being derived from
// the facts, such an ID cannot stand for other facts.
func (w *Writer) appendConflicts(ctx context.Context, window time.Duration, records []event.Record) error {
	encoded, err := w.encode(window, records)
	if err != nil {
		return err
	}
	if err := w.commit(ctx, encoded); err != nil {
		return err
	}
	for i := range encoded {
		if encoded[i].outcome == event.Conflicting {
			return fmt.Errorf("streams: append conflict %s: its id stands for other facts", records[i].Event.ID)
		}
	}
	return nil
}

// encode makes of records what is sent, in the caller's goroutine, because that can
// run beside the lanes.
func (w *Writer) encode(window time.Duration, records []event.Record) ([]record, error) {
	out := make([]record, len(records))
	for i := range records {
		r, e := &out[i], &records[i].Event
		var err error
		if r.wire, err = records[i].Wire(); err != nil {
			return nil, fmt.Errorf("streams: append event %s: %w", e.ID, err)
		}
		r.section = w.sections.of(w.layout.Partition(r.wire.Key()), window)
		r.mark = markOf(e.ID, r.wire.Facts)
		r.undecodable = e.Undecodable()
	}
	return out, nil
}

// size is about how many bytes a record takes on its way.
func (r *record) size() int {
	n := markSize + len(r.wire.Body)
	for i := range r.wire.Values {
		n += len(r.wire.Values[i])
	}
	return n
}

// commit queues records and waits until they were sent or the caller's time is over.
func (w *Writer) commit(ctx context.Context, records []record) error {
	c := &call{ctx: ctx, records: records, done: make(chan struct{})}
	for i := range records {
		records[i].call = c
		c.bytes += records[i].size()
	}
	if err := w.enqueue(c); err != nil {
		return err
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return unavailable("streams: append", context.Cause(ctx))
	}
}

// enqueue puts a call in the queue if there is room. One that is larger than the
// whole queue may come in when nothing else waits, or it never could.
func (w *Writer) enqueue(c *call) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return ErrStopped
	}
	if w.records > 0 && (w.records+len(c.records) > w.o.Queue || w.bytes+c.bytes > w.o.QueueBytes) {
		w.m.overloaded.Inc()
		return ErrOverloaded
	}
	w.calls = append(w.calls, c)
	w.count(len(c.records), c.bytes)
	w.ready.Signal()
	return nil
}

// next waits for calls and moves as many of them into batch as one round trip may
// carry, at least one. It returns none when the writer has stopped and nothing
// is left.
func (w *Writer) next(batch []*call) []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.head == len(w.calls) && !w.stopped {
		w.ready.Wait()
	}
	var records, bytes int
	for w.head < len(w.calls) {
		c := w.calls[w.head]
		if len(batch) > 0 && (records+len(c.records) > w.o.MaxBatch || bytes+c.bytes > w.o.MaxBatchBytes) {
			break
		}
		w.calls[w.head] = nil
		w.head++
		records += len(c.records)
		bytes += c.bytes
		batch = append(batch, c)
	}
	switch {
	case w.head == len(w.calls):
		w.calls, w.head = w.calls[:0], 0
	case w.head > len(w.calls)/2: // under load it never becomes empty
		n := copy(w.calls, w.calls[w.head:])
		clear(w.calls[n:])
		w.calls, w.head = w.calls[:n], 0
	}
	w.count(-records, -bytes)
	return batch
}

// count keeps the queue's size; mu is held.
func (w *Writer) count(records, bytes int) {
	w.records += records
	w.bytes += bytes
	w.m.queued.Set(float64(w.records))
	w.m.queuedBytes.Set(float64(w.bytes))
}

// size is about how many bytes the arguments hold.
func size(args []any) int {
	n := 0
	for _, a := range args {
		switch a := a.(type) {
		case string:
			n += len(a)
		case []byte:
			n += len(a)
		}
	}
	return n
}

var (
	errNotAnswered = errors.New("streams: no answer to the command")
	errAnswer      = errors.New("streams: not the answer of the append script")
)
