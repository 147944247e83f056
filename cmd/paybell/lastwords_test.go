package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// TestLastWordsWaitForTheirReader, who is a little behind.
func TestLastWordsWaitForTheirReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := w.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 16<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the pipe is not full: %v", err)
	}
	if err := w.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	was := os.Stderr
	os.Stderr = w
	defer func() { os.Stderr = was }()
	said := make(chan string, 1)
	time.AfterFunc(100*time.Millisecond, func() {
		b, err := io.ReadAll(r)
		said <- fmt.Sprint(string(b), err)
	})
	if code := run(t.Context(), []string{"gateway", "--set", "gateway.nonsense=1"}); code != exitConfig {
		t.Errorf("it ends with %d", code)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if all := <-said; !strings.Contains(all, "paybell: configuration: ") {
		t.Errorf("the reason is not written: %q", strings.Trim(all, "\x00"))
	}
}
