package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/bbolt"

	"github.com/paybell/paybell/gateway/journal"
)

// store does a journal's job: put returns when the payload is on stable storage and
// may be called by many at once; read goes through what is kept, oldest first, up to
// a number of payloads; release gives the oldest up.
type store interface {
	put(ctx context.Context, payload []byte) error
	read(most int) (n int, last uint64, err error)
	release(upTo uint64) error
	io.Closer
}

// contestant is one way to keep a journal.
type contestant struct {
	name string
	// path is what the program imports for it.
	path string
	open func(ctx context.Context, dir string) (store, error)
}

var contestants = []contestant{
	{"own", "github.com/paybell/paybell/gateway/journal", openOwn},
	{"bbolt", "go.etcd.io/bbolt", openBolt},
	{"pebble", "github.com/cockroachdb/pebble/v2", openPebble},
}

// own is the journal of package gateway/journal.
type own struct {
	j    *journal.Journal
	stop context.CancelFunc
	done chan error
}

func openOwn(ctx context.Context, dir string) (store, error) {
	o := journal.DefaultOptions()
	o.MaxBytes = 64 << 30
	j, _, err := journal.Open(dir, o, journal.Deps{Logger: slog.New(slog.DiscardHandler), Now: time.Now, Disk: journal.OS()})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	s := &own{j, stop, make(chan error, 1)}
	go func() { s.done <- j.Run(running) }()
	return s, nil
}

func (s *own) put(ctx context.Context, payload []byte) error {
	_, err := s.j.Append(ctx, [][]byte{payload})
	return err
}

func (s *own) read(most int) (n int, last uint64, err error) {
	from := s.j.Released() + 1
	for n < most {
		entries, err := s.j.Read(from, min(512, most-n))
		if err != nil || len(entries) == 0 {
			return n, last, err
		}
		for _, e := range entries {
			if e.Err != nil {
				return n, last, e.Err
			}
			last = uint64(e.Position)
		}
		n += len(entries)
		from = journal.Position(last + 1)
	}
	return n, last, nil
}

func (s *own) release(upTo uint64) error { return s.j.Release(journal.Position(upTo)) }

func (s *own) Close() error {
	s.stop()
	return errors.Join(<-s.done, s.j.Close())
}

// bolt keeps payloads in a B+tree file. Its callers share a transaction, and with it
// a sync, as the journal's do: what waits is taken, with no timer. (DB.Batch waits up
// to 10 ms for company.)
type bolt struct {
	db   *bbolt.DB
	in   chan *waiting
	done chan struct{}
}

type waiting struct {
	payload []byte
	told    chan error
}

var bucket = []byte("payloads")

func openBolt(_ context.Context, dir string) (store, error) {
	db, err := bbolt.Open(filepath.Join(dir, "bolt.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s := &bolt{db, make(chan *waiting, 4096), make(chan struct{})}
	go s.run()
	return s, nil
}

func (s *bolt) run() {
	defer close(s.done)
	for first := range s.in {
		batch := []*waiting{first}
		for more := true; more && len(batch) < 4096; {
			select {
			case w, ok := <-s.in:
				if more = ok; ok {
					batch = append(batch, w)
				}
			default:
				more = false
			}
		}
		err := s.db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket)
			b.FillPercent = 1 // keys only grow
			for _, w := range batch {
				n, err := b.NextSequence()
				if err == nil {
					err = b.Put(key(n), w.payload)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		for _, w := range batch {
			w.told <- err
		}
	}
}

func (s *bolt) put(_ context.Context, payload []byte) error {
	w := &waiting{payload, make(chan error, 1)}
	s.in <- w
	return <-w.told
}

func (s *bolt) read(most int) (n int, last uint64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		for k, v := c.First(); k != nil && n < most; k, v = c.Next() {
			if len(v) == 0 {
				return fmt.Errorf("payload %d is empty", binary.BigEndian.Uint64(k))
			}
			n, last = n+1, binary.BigEndian.Uint64(k)
		}
		return nil
	})
	return n, last, err
}

func (s *bolt) release(upTo uint64) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		for k, _ := c.First(); k != nil && binary.BigEndian.Uint64(k) <= upTo; k, _ = c.First() {
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *bolt) Close() error {
	close(s.in)
	<-s.done
	return s.db.Close()
}

// lsm keeps payloads in Pebble, whose commit pipeline shares syncs by itself.
type lsm struct {
	db   *pebble.DB
	next atomic.Uint64
}

// silent is Pebble's logger.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func openPebble(_ context.Context, dir string) (store, error) {
	db, err := pebble.Open(filepath.Join(dir, "pebble"), &pebble.Options{Logger: silent{}})
	if err != nil {
		return nil, err
	}
	s := &lsm{db: db}
	it, err := db.NewIter(nil)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if it.Last() {
		s.next.Store(binary.BigEndian.Uint64(it.Key()))
	}
	return s, it.Close()
}

func (s *lsm) put(_ context.Context, payload []byte) error {
	return s.db.Set(key(s.next.Add(1)), payload, pebble.Sync)
}

func (s *lsm) read(most int) (n int, last uint64, err error) {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return 0, 0, err
	}
	for ok := it.First(); ok && n < most; ok = it.Next() {
		if len(it.Value()) == 0 {
			return n, last, errors.Join(errors.New("an empty payload"), it.Close())
		}
		n, last = n+1, binary.BigEndian.Uint64(it.Key())
	}
	return n, last, it.Close()
}

func (s *lsm) release(upTo uint64) error {
	return s.db.DeleteRange(key(0), key(upTo+1), pebble.Sync)
}

func (s *lsm) Close() error { return s.db.Close() }

func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
