package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// confirm asks the person at the terminal.
func confirm(ctx context.Context, question string) error {
	if info, err := os.Stdin.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return errConfirm
	}
	return ask(ctx, os.Stdin, os.Stderr, question)
}

// ask returns nil when the answer is yes. It does not wait for one when ctx ends: a
// terminal goes on waiting after Ctrl-C.
func ask(ctx context.Context, in io.Reader, out io.Writer, question string) error {
	if _, err := fmt.Fprintf(out, "%s [y/N] ", question); err != nil {
		return err
	}
	type line struct {
		text string
		err  error
	}
	answered := make(chan line, 1)
	go func() { // it ends with the process, where nobody answers
		text, err := bufio.NewReader(in).ReadString('\n')
		answered <- line{text, err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(out)
		return fmt.Errorf("not done: %w", context.Cause(ctx))
	case answer := <-answered:
		if answer.err != nil && !errors.Is(answer.err, io.EOF) {
			return fmt.Errorf("read the answer: %w", answer.err)
		}
		if text := strings.ToLower(strings.TrimSpace(answer.text)); text != "y" && text != "yes" {
			return errConfirm
		}
		return nil
	}
}
