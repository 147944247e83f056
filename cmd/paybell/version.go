package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
)

// version is set by the linker for releases.
var version = "devel"

// versionCmd prints what was built.
type versionCmd struct{}

// Run implements the command.
func (versionCmd) Run() error {
	commit := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	_, err := fmt.Fprintf(os.Stdout, "paybell %s commit %s %s\n", version, commit, runtime.Version())
	return err
}
