package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
)

// version is set by the linker for releases.
var version = "devel"

// versionCmd prints what was built.
type versionCmd struct {
	Output string `enum:"text,json" default:"text" help:"text or json."`
}

// Run implements the command.
func (c versionCmd) Run() error {
	commit := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	if c.Output == "json" {
		return json.NewEncoder(os.Stdout).Encode(map[string]string{"version": version, "commit": commit, "go": runtime.Version()})
	}
	_, err := fmt.Fprintf(os.Stdout, "paybell %s commit %s %s\n", version, commit, runtime.Version())
	return err
}
