package main

import (
	_ "embed"
	"fmt"
	"os"
)

// licenses is written by `make licenses`.
//
//go:embed licenses.txt
var licenses string

// licensesCmd prints what the licences of others ask to be told with a binary.
type licensesCmd struct{}

// Run implements the command.
func (licensesCmd) Run() error {
	_, err := fmt.Fprint(os.Stdout, licenses)
	return err
}
