// Package secret keeps secret text out of logs, dumps and error messages, and
// reads it from where operators keep it: files and environment variables.
package secret

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const redacted = "[redacted]"

// String is secret text. However it is printed, marshalled or logged it reads
// "[redacted]"; Reveal is the only way to its value.
type String struct {
	// A pointer, because fmt prints unexported fields of a struct that holds a String
	// without asking for its methods: it then shows an address.
	value *string
}

// New wraps a value.
func New(value string) String { return String{&value} }

// Reveal returns the value. Call it where the secret is used, and nowhere else.
func (s String) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty reports whether there is no secret.
func (s String) Empty() bool { return s.Reveal() == "" }

// String implements fmt.Stringer.
func (s String) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s String) GoString() string { return redacted }

// Format implements fmt.Formatter, so that no verb reaches the value.
func (s String) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) } // a failed print has nobody to tell

// MarshalText implements encoding.TextMarshaler.
func (s String) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Source says where one secret is read from. Exactly one of File and Env is set.
type Source struct {
	// File is a path; one trailing line break is dropped.
	File string `yaml:"file,omitempty"`
	// Env is the name of an environment variable.
	Env string `yaml:"env,omitempty"`
	// NotBefore and NotAfter bound the time in which the secret is accepted;
	// zero means no bound.
	NotBefore time.Time `yaml:"not_before,omitempty"`
	NotAfter  time.Time `yaml:"not_after,omitempty"`
}

// Errors of reading a Source.
var (
	ErrNoSource  = errors.New("secret: name exactly one of file and env")
	ErrEmpty     = errors.New("secret: empty")
	ErrBadWindow = errors.New("secret: not_after is not later than not_before")
)

// IsZero reports whether the source is unset.
func (s Source) IsZero() bool { return s == Source{} }

// Name tells sources apart in logs and evidence without telling the secret:
// "env:STRIPE_SECRET" or "file:stripe-2026".
func (s Source) Name() string {
	if s.Env != "" {
		return "env:" + s.Env
	}
	return "file:" + filepath.Base(s.File)
}

// Validate checks the form alone; it reads nothing.
func (s Source) Validate() error {
	if (s.File == "") == (s.Env == "") {
		return ErrNoSource
	}
	if !s.NotBefore.IsZero() && !s.NotAfter.IsZero() && !s.NotAfter.After(s.NotBefore) {
		return ErrBadWindow
	}
	return nil
}

// Read returns the secret. Errors name the source and never the value.
func (s Source) Read() (Secret, error) {
	if err := s.Validate(); err != nil {
		return Secret{}, err
	}
	value := os.Getenv(s.Env)
	if s.File != "" {
		b, err := ReadFile(s.File)
		if err != nil {
			return Secret{}, fmt.Errorf("read secret: %w", err)
		}
		value = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	}
	if value == "" {
		return Secret{}, fmt.Errorf("%s: %w", s.Name(), ErrEmpty)
	}
	return Secret{Name: s.Name(), Value: New(value), NotBefore: s.NotBefore, NotAfter: s.NotAfter}, nil
}

// MaxFile is how large a file with a key, a certificate or another secret may be.
const MaxFile = 1 << 20

// ErrTooLarge is the error of a file that is larger than MaxFile.
var ErrTooLarge = fmt.Errorf("secret: the file is larger than %d bytes: it is not the one that is meant", MaxFile)

// ReadFile reads a file with a key, a certificate or another secret. It never reads more
// than MaxFile: a path that names a log, an image or a device must not fill the memory.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > MaxFile {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), ErrTooLarge)
	}
	return b, nil
}

// Secret is one secret read from its source.
type Secret struct {
	// Name is Source.Name: what logs and evidence call the secret.
	Name                string
	Value               String
	NotBefore, NotAfter time.Time
}

// ValidAt reports whether the secret is accepted at t.
func (s Secret) ValidAt(t time.Time) bool {
	return (s.NotBefore.IsZero() || !t.Before(s.NotBefore)) && (s.NotAfter.IsZero() || t.Before(s.NotAfter))
}

// Slot holds the secrets of one purpose, newest first, so that a rotation has
// both at once.
type Slot []Source

// Validate checks the form of every source; it reads nothing.
func (s Slot) Validate() error {
	var errs []error
	for i, src := range s {
		if err := src.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// Read returns every secret of the slot in order, or an error naming each source
// that cannot be read.
func (s Slot) Read() ([]Secret, error) {
	out := make([]Secret, 0, len(s))
	var errs []error
	for i, src := range s {
		sec, err := src.Read()
		if err != nil {
			errs = append(errs, fmt.Errorf("[%d]: %w", i, err))
			continue
		}
		out = append(out, sec)
	}
	return out, errors.Join(errs...)
}
