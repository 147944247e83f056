package workers

// deque is a queue that also takes back at its front. Its zero value is empty.
type deque[T any] struct {
	ring []T // its length is a power of two, or 0
	head int
	n    int
}

func (d *deque[T]) len() int { return d.n }

// front is the first element; the deque must not be empty.
func (d *deque[T]) front() T { return d.ring[d.head] }

func (d *deque[T]) pushBack(v T) {
	d.grow()
	d.ring[(d.head+d.n)&(len(d.ring)-1)] = v
	d.n++
}

func (d *deque[T]) pushFront(v T) {
	d.grow()
	d.head = (d.head - 1) & (len(d.ring) - 1)
	d.ring[d.head] = v
	d.n++
}

func (d *deque[T]) popFront() T {
	v := d.ring[d.head]
	var zero T
	d.ring[d.head] = zero // What left the queue must not be kept alive by it.
	d.head = (d.head + 1) & (len(d.ring) - 1)
	d.n--
	return v
}

func (d *deque[T]) grow() {
	if d.n < len(d.ring) {
		return
	}
	ring := make([]T, max(4, 2*len(d.ring)))
	for i := range d.n {
		ring[i] = d.ring[(d.head+i)&(len(d.ring)-1)]
	}
	d.ring, d.head = ring, 0
}
