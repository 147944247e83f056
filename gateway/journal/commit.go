package journal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// maxCommit bounds the bytes that one sync makes durable.
const maxCommit = 8 << 20

// Run commits what Append queues until ctx ends; then it commits what still waits
// and returns, and later Appends get ErrClosed. One sync serves every caller that
// waited for it: there is no timer, a commit takes what has gathered while the last
// one was on its way to the disk.
func (j *Journal) Run(ctx context.Context) error {
	var looking sync.WaitGroup
	looking.Go(func() { j.watchDir(ctx) })
	defer looking.Wait()
	for {
		select {
		case r := <-j.in:
			j.commit(j.gather(r))
		case <-ctx.Done():
			j.mu.Lock()
			j.ended = true // nothing is queued behind this
			j.mu.Unlock()
			for {
				select {
				case r := <-j.in:
					j.commit(j.gather(r))
				default:
					return nil
				}
			}
		}
	}
}

// lookEvery is how soon it is noticed that somebody has emptied the quarantine, or
// removed the journal while nothing is appended.
const lookEvery = 10 * time.Second

func (j *Journal) watchDir(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := j.inPlace(nil); errors.Is(err, ErrRemoved) {
			_ = j.fail(err) // which logs it
		}
		j.mu.Lock()
		something := j.quarantined > 0
		j.mu.Unlock()
		if something {
			j.files.Lock()
			_ = j.countQuarantine() // what could not be counted now is counted the next time
			j.files.Unlock()
		}
	}
}

// gather takes what waits, up to maxCommit bytes.
func (j *Journal) gather(first *request) []*request {
	batch := []*request{first}
	bytes := first.bytes()
	for bytes < maxCommit {
		select {
		case r := <-j.in:
			batch = append(batch, r)
			bytes += r.bytes()
		default:
			return batch
		}
	}
	return batch
}

func (r *request) bytes() int64 {
	var n int64
	for _, p := range r.payloads {
		n += headerLen + int64(len(p))
	}
	return n
}

// commit writes and syncs a batch and tells its callers.
func (j *Journal) commit(batch []*request) {
	accepted, err := j.write(batch)
	j.mu.Lock()
	for _, r := range batch {
		j.waiting -= r.bytes()
	}
	j.mu.Unlock()
	for i, r := range batch {
		switch {
		case err != nil:
			r.told(0, err)
		case !accepted[i]:
			r.told(0, errMaxBytes)
		default:
			r.told(r.first, nil)
		}
	}
}

// write puts the batch into the open segment. accepted says which requests fitted
// the bounds; an error means that none was kept.
func (j *Journal) write(batch []*request) (accepted []bool, err error) {
	seg, err := j.open()
	if err != nil {
		return nil, err
	}
	defer func() {
		j.mu.Lock()
		j.writing = nil
		j.mu.Unlock()
	}()
	j.mu.Lock()
	total := j.bytes() + j.quarantined
	// Behind lost records the numbers go on after what was released, or the new
	// ones would count as released.
	next, size := max(seg.end(), j.released+1), seg.size
	j.mu.Unlock()

	// Only this goroutine writes, so the segment's tail cannot move meanwhile.
	at := j.now().UnixMilli()
	accepted = make([]bool, len(batch))
	var need int64
	for _, r := range batch {
		need += r.bytes()
	}
	b := make([]byte, 0, int64(len(seg.salt.header()))+need) // grown, it would leave as much again behind
	if size == 0 {
		b = append(b, seg.salt.header()...)
	}
	fresh := len(b)
	var added []record
	for i, r := range batch {
		if !r.moved && total+int64(len(b))+r.bytes() > j.o.MaxBytes {
			j.lack(r.bytes())
			continue
		}
		accepted[i], r.first = true, next
		for k, p := range r.payloads {
			added = append(added, record{position: next, at: at, offset: size + int64(len(b)), length: int64(len(p))})
			b = seg.salt.encode(b, next, at, k < len(r.payloads)-1, p)
			next++
		}
	}
	if len(b) == fresh {
		return accepted, nil
	}
	if _, err := seg.file.Write(b); err != nil {
		// Nothing was synced, so what was half written can be taken back, and the next
		// callback is tried: a full disk is then no worse than a full journal.
		if terr := seg.file.Truncate(size); terr != nil {
			return nil, j.fail(fmt.Errorf("take back a half-written record: %w", terr))
		}
		return nil, j.notTaken(err)
	}
	if err := seg.file.Sync(); err != nil {
		return nil, j.fail(fmt.Errorf("sync %s: %w", filepath.Base(seg.path), err))
	}
	// Behind the sync and before anybody is told.
	if err := j.inPlace(seg); err != nil {
		return nil, j.fail(err)
	}
	j.mu.Lock()
	j.refused = refusal{}
	seg.size = size + int64(len(b))
	seg.records = append(seg.records, added...)
	j.mu.Unlock()
	return accepted, nil
}

// fail closes the journal to appends for good: after a failed sync the kernel may
// have dropped dirty pages, and a second sync that succeeds would prove nothing; and a
// directory that was removed may come back as another's. The first failure is told.
func (j *Journal) fail(err error) error {
	j.mu.Lock()
	first := j.failed == nil
	if first {
		j.failed = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	failed := j.failed
	j.mu.Unlock()
	switch {
	case !first:
	case errors.Is(err, ErrRemoved):
		j.log.Error("journal was removed or replaced under the running process: it takes no callback until the process is restarted, and what it holds is in open files of this process alone: have it brought to the stream before the restart",
			"dir", j.dir, "payloads", j.Stats().Payloads, "err", err)
	default:
		j.log.Error("journal fails closed: no callback is accepted into it until the process is restarted on a sound disk", "err", err)
	}
	return failed
}

// lack remembers what did not fit the bound: with less room than that, what comes next
// will not either.
func (j *Journal) lack(bytes int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lacked == 0 || bytes < j.lacked {
		j.lacked = bytes
	}
}

// notTaken says that the disk took nothing, and remembers when and why.
func (j *Journal) notTaken(err error) error {
	kind := ErrDisk
	for _, room := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, room) {
			kind = ErrFull
		}
	}
	err = fmt.Errorf("%w: %w", kind, err)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.refused = refusal{j.now(), err}
	return err
}

// open returns the segment to write to, which nobody removes as long as it is
// j.writing: a new one when there is none or it is long enough.
func (j *Journal) open() (*segment, error) {
	j.mu.Lock()
	if j.failed != nil {
		defer j.mu.Unlock()
		return nil, j.failed
	}
	if j.tail != nil && j.tail.size < j.o.SegmentBytes {
		defer j.mu.Unlock()
		j.writing = j.tail
		return j.tail, nil
	}
	first := max(j.released+1, j.floor)
	if n := len(j.segments); n > 0 {
		first = max(j.segments[n-1].end(), first)
	}
	j.mu.Unlock()

	// A directory that took this one's place may be another process's.
	if err := j.inPlace(nil); err != nil {
		return nil, j.fail(err)
	}
	// Only this goroutine makes segments, so nothing is put behind the last meanwhile.
	seg := &segment{first: first, salt: newSalt(j.session)}
	seg.path = filepath.Join(j.dir, segmentName(first, seg.salt))
	f, err := j.disk.Create(seg.path)
	if err != nil {
		return nil, j.notTaken(fmt.Errorf("open a segment: %w", err))
	}
	if err := j.disk.SyncDir(j.dir); err != nil {
		_ = f.Close() // the sync's error says more
		return nil, j.fail(fmt.Errorf("sync directory: %w", err))
	}
	if seg.info, err = j.look(seg.path); err != nil {
		_ = f.Close() // nothing is in it
		return nil, j.fail(err)
	}
	seg.file = f
	j.mu.Lock()
	defer j.mu.Unlock()
	j.segments = append(j.segments, seg)
	j.tail, j.writing = seg, seg
	return seg, nil
}
