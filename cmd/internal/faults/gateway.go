//go:build faults

package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/journal"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// Provider passes Verified.
func (f *Faults) Provider(p provider.Provider) provider.Provider { return crashingProvider{p, f} }

type crashingProvider struct {
	provider.Provider
	f *Faults
}

// Decode implements provider.Provider.
func (p crashingProvider) Decode(cb *provider.Callback, v *provider.Verified) ([]provider.Decoded, error) {
	out, err := p.Provider.Decode(cb, v)
	if err == nil {
		p.f.pass(Verified)
	}
	return out, err
}

// fromDoor marks the context of a callback's append, which a drain's has not.
type fromDoor struct{}

// Door passes Appended.
func (f *Faults) Door(a gateway.Appender) gateway.Appender { return &door{a, f} }

type door struct {
	gateway.Appender
	f *Faults
}

// Append implements gateway.Appender.
func (d *door) Append(ctx context.Context, window time.Duration, records []event.Record) ([]event.Appended, error) {
	out, err := d.Appender.Append(context.WithValue(ctx, fromDoor{}, true), window, records)
	if err == nil {
		d.f.pass(Appended)
	}
	return out, err
}

// Stream passes DrainAppended when the journal is being drained.
func (f *Faults) Stream(a gateway.Appender) gateway.Appender {
	if f.broken == "append" {
		a = &forgetful{Appender: a}
	}
	return &drained{a, f}
}

type drained struct {
	gateway.Appender
	f *Faults
}

// Append implements gateway.Appender.
func (d *drained) Append(ctx context.Context, window time.Duration, records []event.Record) ([]event.Appended, error) {
	out, err := d.Appender.Append(ctx, window, records)
	if err == nil && ctx.Value(fromDoor{}) == nil {
		d.f.pass(DrainAppended)
	}
	return out, err
}

// forgetful appends without knowing duplicates: marks of one window are not looked
// for under another.
type forgetful struct {
	gateway.Appender
	n atomic.Int64
}

// Append implements gateway.Appender.
func (a *forgetful) Append(ctx context.Context, window time.Duration, records []event.Record) ([]event.Appended, error) {
	return a.Appender.Append(ctx, window+time.Duration(a.n.Add(1))*time.Millisecond, records)
}

// Disk passes JournalWritten and JournalSynced, and notes what is synced: a file's
// length under its name in the directory PAYBELL_SYNCED, and "<name>.named" when its
// name is in a synced directory. A power loss would leave that much and no more.
func (f *Faults) Disk(d journal.Disk) journal.Disk {
	create, syncDir := d.Create, d.SyncDir
	d.Create = func(path string) (journal.File, error) {
		file, err := create(path)
		if err != nil {
			return nil, err
		}
		return &syncedFile{File: file, f: f, name: filepath.Base(path)}, nil
	}
	d.SyncDir = func(path string) error {
		if f.broken == "journal" {
			return nil
		}
		if err := syncDir(path); err != nil {
			return err
		}
		f.pass(JournalCreated)
		return f.noteNames(path)
	}
	return d
}

// syncedFile knows how much of a file was written, and notes how much was synced.
type syncedFile struct {
	journal.File
	f      *Faults
	name   string
	length atomic.Int64
}

// Write implements journal.File.
func (s *syncedFile) Write(p []byte) (int, error) {
	n, err := s.File.Write(p)
	s.length.Add(int64(n))
	s.f.pass(JournalWritten)
	return n, err
}

// Truncate implements journal.File.
func (s *syncedFile) Truncate(size int64) error {
	err := s.File.Truncate(size)
	if err == nil {
		s.length.Store(size)
	}
	return err
}

// Sync implements journal.File.
func (s *syncedFile) Sync() error {
	if s.f.broken == "journal" {
		return nil
	}
	length := s.length.Load()
	if err := s.File.Sync(); err != nil {
		return err
	}
	if err := s.f.note(s.name, length); err != nil {
		return err
	}
	s.f.pass(JournalSynced)
	return nil
}

// note writes a length with one call, which a SIGKILL cannot cut in half.
func (f *Faults) note(name string, length int64) error {
	if f.synced == "" {
		return nil
	}
	file, err := os.OpenFile(filepath.Join(f.synced, name), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteAt(fmt.Appendf(nil, "%020d", length), 0)
	return err
}

func (f *Faults) noteNames(dir string) error {
	if f.synced == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			if err := f.note(e.Name()+".named", 1); err != nil {
				return err
			}
		}
	}
	return nil
}
