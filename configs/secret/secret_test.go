package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/configs/secret"
)

const value = "whsec_do_not_show"

// TestNoWayOfPrintingShowsTheValue: also not inside a struct with unexported fields,
// where fmt asks for no method.
func TestNoWayOfPrintingShowsTheValue(t *testing.T) {
	type holder struct {
		s  secret.String
		in struct{ secrets []secret.Secret }
	}
	s := secret.New(value)
	h := holder{s: s}
	h.in.secrets = []secret.Secret{{Name: "env:A", Value: s}}
	for _, v := range []any{s, &s, h, &h, h.in.secrets, map[string]secret.String{"a": s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "do_not_show") || strings.Contains(text, fmt.Sprintf("%x", value)) {
				t.Errorf("%s of %T shows the value", verb, v)
			}
		}
	}
	b, err := json.Marshal(map[string]any{"s": s, "list": h.in.secrets})
	if err != nil || strings.Contains(string(b), "do_not_show") {
		t.Errorf("json: %s, %v", b, err)
	}
	if s.Reveal() != value || s.Empty() || !(secret.String{}).Empty() || (secret.String{}).Reveal() != "" {
		t.Error("Reveal and Empty do not tell the value")
	}
}

func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stripe-2026")
	if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("STRIPE_SECRET", value)
	t.Setenv("NOTHING", "")
	for name, c := range map[string]struct {
		source secret.Source
		want   string
		err    error
	}{
		"file drops one line break": {source: secret.Source{File: file}, want: "file:stripe-2026"},
		"environment":               {source: secret.Source{Env: "STRIPE_SECRET"}, want: "env:STRIPE_SECRET"},
		"empty":                     {source: secret.Source{Env: "NOTHING"}, err: secret.ErrEmpty},
		"missing file":              {source: secret.Source{File: file + "x"}, err: os.ErrNotExist},
		"neither":                   {err: secret.ErrNoSource},
		"both":                      {source: secret.Source{File: file, Env: "A"}, err: secret.ErrNoSource},
		"window that never opens": {
			source: secret.Source{Env: "STRIPE_SECRET", NotBefore: time.Unix(2, 0), NotAfter: time.Unix(1, 0)}, err: secret.ErrBadWindow,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := c.source.Read()
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil && (s.Name != c.want || s.Value.Reveal() != value) {
				t.Fatalf("read %s, want %s with the value", s.Name, c.want)
			}
		})
	}
}

// TestOnlyAFileOfASecretsSizeIsRead names a file without an end, and one that is a little
// too large.
func TestOnlyAFileOfASecretsSizeIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	for size, want := range map[int]error{secret.MaxFile: nil, secret.MaxFile + 1: secret.ErrTooLarge} {
		if err := os.WriteFile(path, bytes.Repeat([]byte("k"), size), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := secret.ReadFile(path); !errors.Is(err, want) || err == nil && len(b) != size {
			t.Errorf("%d bytes: %d read, %v", size, len(b), err)
		}
	}
	_, err := secret.Source{File: "/dev/zero"}.Read()
	if !errors.Is(err, secret.ErrTooLarge) || !strings.Contains(err.Error(), "zero") {
		t.Errorf("a file without an end: %v", err)
	}
}

func TestSlotNamesEverySourceThatCannotBeRead(t *testing.T) {
	t.Setenv("GOOD", value)
	slot := secret.Slot{{Env: "GOOD"}, {Env: "ABSENT_A"}, {File: "/nowhere/b"}}
	got, err := slot.Read()
	if len(got) != 1 || err == nil || !strings.Contains(err.Error(), "[1]") || !strings.Contains(err.Error(), "[2]") {
		t.Fatalf("read %d, %v; want one secret and an error that names [1] and [2]", len(got), err)
	}
}

func TestValidAt(t *testing.T) {
	s := secret.Secret{NotBefore: time.Unix(10, 0), NotAfter: time.Unix(20, 0)}
	for at, want := range map[int64]bool{9: false, 10: true, 19: true, 20: false} {
		if s.ValidAt(time.Unix(at, 0)) != want {
			t.Errorf("at %d: %v, want %v", at, !want, want)
		}
	}
	if !(secret.Secret{}).ValidAt(time.Unix(0, 0)) {
		t.Error("a secret without bounds is not valid")
	}
}
