package streams

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Parking is a delivery that leaves the stream, so that a long wait pins nothing.
type Parking struct {
	EntryID string
	// Wait is how long it is not due. Behind: it has no time of its own and is run
	// after the one before it in its order.
	Wait   time.Duration
	Behind bool
	// Attempts were charged to it and have ended.
	Attempts int
}

// Parked is what an owner has to know of a parked delivery to keep its order.
type Parked struct {
	ID string
	// Key is the ordering key of its event; empty where no event could be read.
	Key string
	// Wait is how long it is not due, from now on.
	Wait time.Duration
	// Attempts were charged to it. More than Known, which were charged when it was
	// parked, means that an owner ended while it ran.
	Attempts, Known int
	// Bytes is what it occupies.
	Bytes int
}

// Parked is the schedule of a group's parked deliveries: entry id by the time it is
// due in milliseconds, 0 for what follows an earlier one of its order.
func (l Layout) Parked(partition int, group string) string {
	return l.heads[partition] + "parked:" + group
}

// Parcels is the hash that keeps what is parked, by entry id.
func (l Layout) Parcels(partition int, group string) string {
	return l.heads[partition] + "parcels:" + group
}

// maxParked bounds the deliveries of one call; each may carry a whole callback.
const maxParked = 100

// Park moves pending deliveries out of the stream, each with its place in its order
// and the attempts it has had, and gives those that are parked already another time.
// Deliveries of one order have to be given in append order: where a call is cut off,
// those moved are then the first of their order. Parking again changes nothing.
//
// It returns those that are not parked because the group does not have them: their
// entry was deleted, they were settled by somebody else, or the group was created
// again and has not delivered them yet.
func (l *Lease) Park(ctx context.Context, ps []Parking) (without []string, err error) {
	g := l.group
	for len(ps) > 0 {
		var now []Parking
		now, ps = cut(ps, maxParked)
		args := make([]any, 0, 1+3*len(now))
		args = append(args, g.name)
		for _, p := range now {
			wait := ""
			if !p.Behind {
				wait = strconv.FormatInt(max(0, p.Wait.Milliseconds()), 10)
			}
			args = append(args, p.EntryID, wait, p.Attempts)
		}
		reply, err := l.fenced(ctx, parkScript, []string{
			g.layout.Events(l.partition), g.layout.Attempts(l.partition, g.name),
			g.layout.Parked(l.partition, g.name), g.layout.Parcels(l.partition, g.name), g.layout.Counts(l.partition, g.name),
		}, args...)
		if err != nil {
			return without, err
		}
		n, _ := at(reply, 0).(int64) // the script answers a count
		g.m.parked.Add(float64(n))
		lost := texts(at(reply, 1))
		without = append(append(without, lost...), texts(at(reply, 2))...)
		if len(lost) > 0 {
			g.m.lost.Add(float64(len(lost)))
			g.log.Error("pending entries were deleted from the stream before they could be parked",
				"partition", l.partition, "entry_ids", lost)
		}
	}
	return without, nil
}

// Parked reads what is parked, soonest due first, from the place first on; a page
// shorter than max is the last one. What is parked between two pages may come twice.
func (l *Lease) Parked(ctx context.Context, first, max int) ([]Parked, error) {
	g := l.group
	if max < 1 {
		return nil, nil
	}
	reply, err := l.fenced(ctx, parkedScript, []string{
		g.layout.Attempts(l.partition, g.name), g.layout.Parked(l.partition, g.name), g.layout.Parcels(l.partition, g.name),
	}, first, first+max-1)
	if err != nil {
		return nil, err
	}
	out := make([]Parked, 0, len(reply))
	for _, v := range reply {
		row, ok := v.([]any)
		if !ok || len(row) != 6 {
			return nil, fmt.Errorf("streams: parked: answer of an unknown form")
		}
		var p Parked
		p.ID, _ = row[0].(string) // ids and keys are text
		p.Key, _ = row[2].(string)
		p.Wait = time.Duration(number(row[1])) * time.Millisecond
		p.Known, p.Attempts, p.Bytes = int(number(row[3])), int(number(row[4])), int(number(row[5]))
		out = append(out, p)
	}
	return out, nil
}

// Unpack reads parked deliveries, in the order of ids. They stay parked until they
// are settled. One whose content was deleted comes back as Gone.
func (l *Lease) Unpack(ctx context.Context, ids []string) ([]Entry, error) {
	g := l.group
	var out []Entry
	for len(ids) > 0 {
		var now []string
		now, ids = cut(ids, maxParked)
		reply, err := l.fenced(ctx, unpackScript, []string{
			g.layout.Attempts(l.partition, g.name), g.layout.Parcels(l.partition, g.name),
		}, anys(nil, now)...)
		if err != nil {
			return nil, err
		}
		for _, v := range reply {
			row, ok := v.([]any)
			if !ok || len(row) != 3 {
				return nil, fmt.Errorf("streams: unpack: answer of an unknown form")
			}
			out = append(out, l.entry(row[0], row[2], row[1]))
		}
	}
	return out, nil
}

// number is an integer of an answer; what is none is 0.
func number(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case string:
		n, _ := strconv.ParseInt(v, 10, 64) // the scripts format it
		return n
	default:
		return 0
	}
}
