// Package journal keeps opaque payloads in append-only local files until they
// have been passed on. It knows nothing of events, Redis or HTTP.
//
// What it promises: a nil error of Append means that the payloads are on stable
// storage, written and synced; they are read back in the order in which they were
// appended; what is read was written, byte for byte (CRC-32C). It fails closed, and
// accepts nothing more until the directory is opened again: after a failed sync, because
// the kernel may have dropped the pages that it could not write, and after its files were
// removed or replaced under it, because the next process would not find what is synced
// into them. No process ever writes to a file of an earlier one. A tail torn by a crash
// is passed over; damage is passed over loudly, the good records around it are used, and
// the file is kept in quarantine. A disk that hangs holds up Run and Release and nobody
// else. One process at a time holds the directory.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Options bound a journal.
type Options struct {
	// MaxBytes bounds the files together, those in the quarantine too; beyond it
	// Append returns ErrFull.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxAge is how old the oldest payload may become before Append returns ErrFull:
	// what has not drained for so long would be too late to be worth a success reply.
	// 0 bounds nothing.
	MaxAge time.Duration `yaml:"max_age"`
	// SegmentBytes is about how long one file grows; a file is removed when all of it
	// has been passed on.
	SegmentBytes int64 `yaml:"segment_bytes"`
	// Queue bounds how many Append calls wait for a sync; beyond it, and beyond
	// QueueBytes of their payloads, ErrBusy.
	Queue int `yaml:"queue"`
	// QueueBytes bounds the memory of those who wait while the disk hangs; 0 is 64 MiB.
	// One request may exceed it where no other waits.
	QueueBytes int64 `yaml:"-"`
}

// DefaultOptions are the bounds used where none are given.
func DefaultOptions() Options {
	return Options{MaxBytes: 1 << 30, MaxAge: 24 * time.Hour, SegmentBytes: 16 << 20, Queue: 4096}
}

// Validate reports every problem, each with the path of its field.
func (o Options) Validate() error {
	var errs []error
	if o.SegmentBytes < 4<<10 || o.SegmentBytes > 1<<30 {
		errs = append(errs, errors.New("segment_bytes: must be between 4096 and 1073741824"))
	}
	if o.MaxBytes < 2*o.SegmentBytes {
		errs = append(errs, errors.New("max_bytes: must be at least twice segment_bytes"))
	}
	if o.MaxAge != 0 && o.MaxAge < time.Second {
		errs = append(errs, errors.New("max_age: must be at least 1s, or 0"))
	}
	if o.Queue < 1 || o.Queue > 1<<20 {
		errs = append(errs, errors.New("queue: must be between 1 and 1048576"))
	}
	return errors.Join(errs...)
}

// Errors of a journal.
var (
	// ErrFull: a bound is reached, or the disk has no room, or none for this user;
	// nothing was kept.
	ErrFull = errors.New("journal: full")
	// ErrDisk: the disk took nothing, and not for want of room; nothing was kept.
	ErrDisk = errors.New("journal: the disk takes nothing")
	// ErrBusy: too many appends wait for a sync; nothing was kept.
	ErrBusy = errors.New("journal: busy")
	// ErrFailed: a sync failed, or ErrRemoved; the journal accepts nothing until it is
	// opened again.
	ErrFailed = errors.New("journal: failed")
	// ErrRemoved: what this process holds is not where the next one looks for it.
	ErrRemoved = errors.New("journal: removed or replaced under the running process")
	// ErrLocked: another process holds the directory.
	ErrLocked = errors.New("journal: directory is held by another process")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("journal: closed")
	// ErrTooLarge: a payload is longer than MaxPayload.
	ErrTooLarge = errors.New("journal: payload too large")
)

// errMaxBytes is ErrFull where the bound is Options.MaxBytes.
var errMaxBytes = fmt.Errorf("%w: its files have all the bytes they may take", ErrFull)

// MaxPayload is the longest payload, in bytes.
const MaxPayload = 32 << 20

// defaultQueueBytes is Options.QueueBytes where none are given.
const defaultQueueBytes = 64 << 20

// Position is a place in the journal: payloads are numbered from 1 and numbers
// are never used again, also not after a restart.
type Position uint64

// Entry is a payload at its position.
type Entry struct {
	Position Position
	At       time.Time
	Payload  []byte
	// Err says why the payload cannot be read any more.
	Err error
}

// Deps are what a Journal is given.
type Deps struct {
	Logger *slog.Logger
	Now    func() time.Time
	Disk   Disk
}

// Journal is an open journal. Its methods are safe for concurrent use.
type Journal struct {
	dir  string
	o    Options
	log  *slog.Logger
	now  func() time.Time
	disk Disk
	lock *os.File
	// locked is which file the lock is.
	locked fs.FileInfo
	in     chan *request
	// session tells this process's segments from those of earlier ones.
	session uint64

	// files is held over what is done to files that are not written to any more, one
	// such thing at a time. It is taken before mu.
	files  sync.Mutex
	noted  Position // the mark on the disk
	ailing bool     // the last Release failed

	// mu is never held over an operation on the disk: whoever asks while the disk hangs
	// gets an answer (TestHangingDiskHoldsUpNobody).
	mu          sync.Mutex
	segments    []*segment // oldest first
	left        []*segment // released, and still on the disk
	tail        *segment   // the last one, if it is this process's and grows
	writing     *segment   // under a write now: it must not be removed
	floor       Position   // below it there may be numbers that could not be read
	released    Position
	quarantined int64
	waiting     int64   // bytes of the requests whose fate is not told
	refused     refusal // the disk's last one, until it takes something
	lacked      int64   // bytes of the smallest callback that did not fit the bound, or 0
	failed      error
	ended       bool // Run has returned, or is about to
	closed      bool
}

// refusal is when the disk took nothing, and why.
type refusal struct {
	at  time.Time
	err error
}

// request is one Submit waiting for its sync.
type request struct {
	payloads [][]byte
	// moved: they are in the journal already, so no bound of it refuses them.
	moved bool
	first Position
	told  func(first Position, err error)
}

// Report tells what Open found.
type Report struct {
	// Payloads are those not yet released.
	Payloads int
	// Torn counts bytes of unfinished ends, as a crash leaves them, Damaged those of all
	// else that cannot be read. The files move to the quarantine directory when what is
	// good in them has been released.
	Torn, Damaged int64
}

// Open takes the directory, making it if needed, and reads what it holds.
func Open(dir string, o Options, d Deps) (*Journal, Report, error) {
	if err := o.Validate(); err != nil {
		return nil, Report{}, fmt.Errorf("journal: %w", err)
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = defaultQueueBytes
	}
	if err := makeDir(dir, d.Disk); err != nil {
		return nil, Report{}, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, Report{}, err
	}
	j := &Journal{
		dir: dir, o: o, log: d.Logger, now: d.Now, disk: d.Disk, lock: lock,
		in: make(chan *request, o.Queue), session: random(),
	}
	var report Report
	if j.locked, err = lock.Stat(); err == nil {
		report, err = j.recover()
	}
	if err != nil {
		return nil, report, errors.Join(err, j.Close())
	}
	return j, report, nil
}

// Append keeps the payloads of one callback, all of them or none, and returns the
// position of the first; the others follow it. A caller whose ctx ends learns only
// that; its payloads may be kept all the same. Run must be running.
func (j *Journal) Append(ctx context.Context, payloads [][]byte) (Position, error) {
	return j.await(ctx, &request{payloads: payloads})
}

// Move is Append for payloads that are in the journal already and will be released
// where they are as soon as this returns: the bounds do not refuse them, or a full
// journal could never become empty.
func (j *Journal) Move(ctx context.Context, payloads [][]byte) (Position, error) {
	return j.await(ctx, &request{payloads: payloads, moved: true})
}

// await submits a request and waits for its fate.
func (j *Journal) await(ctx context.Context, r *request) (Position, error) {
	type fate struct {
		first Position
		err   error
	}
	done := make(chan fate, 1)
	r.told = func(first Position, err error) { done <- fate{first, err} }
	if err := j.submit(r); err != nil {
		return 0, err
	}
	select {
	case f := <-done:
		return f.first, f.err
	case <-ctx.Done():
		return 0, fmt.Errorf("journal: wait for the sync: %w", ctx.Err())
	}
}

// Submit is Append for those who have to know what became of the payloads also when
// nobody waits for them any more. After a nil error told is called exactly once, by
// Run, which waits for it; after another it is not called and nothing is kept.
func (j *Journal) Submit(payloads [][]byte, told func(first Position, err error)) error {
	return j.submit(&request{payloads: payloads, told: told})
}

func (j *Journal) submit(r *request) error {
	for _, p := range r.payloads {
		if len(p) > MaxPayload {
			return ErrTooLarge
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.refuse(); err != nil && (!r.moved || !errors.Is(err, ErrFull)) {
		return err
	}
	n := r.bytes()
	if j.waiting > 0 && j.waiting+n > j.o.QueueBytes {
		return ErrBusy
	}
	select {
	case j.in <- r:
		j.waiting += n
		return nil
	default:
		return ErrBusy
	}
}

// refuse is why nothing can be appended now, as far as is known before trying.
// j.mu is held.
func (j *Journal) refuse() error {
	switch {
	case j.ended || j.closed:
		return ErrClosed
	case j.failed != nil:
		return j.failed
	}
	if oldest := j.oldest(); j.o.MaxAge > 0 && !oldest.IsZero() && j.now().Sub(oldest) > j.o.MaxAge {
		return fmt.Errorf("%w: the oldest payload is from %s", ErrFull, oldest.UTC().Format(time.RFC3339))
	}
	return nil
}

// stillRefuses is how long Ready believes that a disk takes nothing: nobody may be
// sending, so nothing would find out otherwise.
const stillRefuses = 5 * time.Second

// Ready is nil when the journal can be expected to take a payload now.
func (j *Journal) Ready() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.refuse(); err != nil {
		return err
	}
	if j.bytes()+j.quarantined+max(1, j.lacked) > j.o.MaxBytes {
		return errMaxBytes
	}
	if j.refused.err != nil && j.now().Sub(j.refused.at) < stillRefuses {
		return j.refused.err
	}
	return nil
}

// Stats is what a journal holds now.
type Stats struct {
	// Payloads are those not released; Bytes is what their files take.
	Payloads int
	Bytes    int64
	// Quarantined is what the files in the quarantine take.
	Quarantined int64
	// Oldest is when the oldest payload not released was appended.
	Oldest time.Time
	// Failed is the error after which nothing is accepted any more.
	Failed error
}

// Stats tells what the journal holds.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := Stats{Oldest: j.oldest(), Failed: j.failed, Bytes: j.bytes(), Quarantined: j.quarantined}
	for _, seg := range j.segments {
		s.Payloads += len(seg.records) - seg.index(j.released+1)
	}
	return s
}

// bytes is what the files take, those included that should be gone. j.mu is held.
func (j *Journal) bytes() (n int64) {
	for _, seg := range j.segments {
		n += seg.size
	}
	for _, seg := range j.left {
		n += seg.size
	}
	return n
}

// oldest is the time of the oldest payload that is not released.
func (j *Journal) oldest() time.Time {
	for _, seg := range j.segments {
		if at, ok := seg.timeFrom(j.released + 1); ok {
			return at
		}
	}
	return time.Time{}
}

// Close lets go of the directory. Run must have returned.
func (j *Journal) Close() error {
	if s := j.Stats(); s.Payloads > 0 && errors.Is(s.Failed, ErrRemoved) {
		j.log.Error("journal ends with payloads in files that were removed or replaced: the next process does not find them",
			"dir", j.dir, "payloads", s.Payloads)
	}
	j.files.Lock()
	defer j.files.Unlock()
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	segments := j.segments
	j.mu.Unlock()
	var errs []error
	for _, seg := range segments {
		errs = append(errs, seg.close())
	}
	return errors.Join(append(errs, j.lock.Close())...)
}
