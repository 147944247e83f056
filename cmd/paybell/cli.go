package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/cmd/internal/lines"
	"github.com/paybell/paybell/configs"
)

// cli is the command line.
type cli struct {
	globals

	Serve       serveCmd       `cmd:"" help:"Run gateway and workers in one process; without configuration, the embedded default."`
	Gateway     gatewayCmd     `cmd:"" help:"Run the public door alone."`
	Worker      workerCmd      `cmd:"" help:"Run the consumer groups alone."`
	Send        sendCmd        `cmd:"" help:"Sign a callback as the account's provider would, and post it."`
	Status      statusCmd      `cmd:"" help:"Show accounts, groups and recent orders of a running process."`
	Deadletters deadlettersCmd `cmd:"" help:"Look after deliveries that were given up."`
	Replay      replayCmd      `cmd:"" help:"Deliver dead letters again, or with --settled what a group has settled."`
	Ledger      ledgerCmd      `cmd:"" help:"Acknowledge what the ledger has found."`
	Journal     journalCmd     `cmd:"" help:"Look after the journal of a gateway."`
	Config      configCmd      `cmd:"" help:"Check, print or explain the configuration."`
	Migrate     migrateCmd     `cmd:"" help:"Bring the database schema up to date."`
	Deployment  deploymentCmd  `cmd:"" help:"Show or change which deployment the database belongs to."`
	Accounts    accountsCmd    `cmd:"" help:"Show the accounts that are known, or let one go on in another namespace."`
	Licenses    licensesCmd    `cmd:"" help:"Print the licences of what the binary is built from."`
	Partitions  partitionsCmd  `cmd:"" help:"Show or change the number of partitions."`
	Version     versionCmd     `cmd:"" help:"Print version, commit and Go version."`
}

// globals are the flags of every command.
type globals struct {
	ConfigFile string   `name:"config" short:"c" placeholder:"FILE" env:"PAYBELL_CONFIG" help:"Configuration file (YAML)."`
	DataDir    string   `name:"data-dir" placeholder:"DIR" help:"Directory of the embedded default; sets data_dir."`
	Set        []string `name:"set" sep:"none" placeholder:"KEY=VALUE" help:"Set one configuration key, such as gateway.address=127.0.0.1:8081; repeatable."`

	// stderr is where the log goes.
	stderr *lines.Writer
}

// refuseEmpty refuses arguments that are given without saying anything. They come of
// variables that are not set, and leaving them out would select more, or use another
// configuration, than was meant.
func refuseEmpty(k *kong.Context) error {
	for _, p := range k.Path {
		var name string
		var given any
		switch {
		case p.Flag != nil:
			name, given = "--"+p.Flag.Name, p.Flag.Target.Interface()
		case p.Positional != nil:
			name, given = "<"+p.Positional.Name+">", p.Positional.Target.Interface()
		}
		empty := false
		switch v := given.(type) {
		case string:
			empty = v == ""
		case []string:
			empty = slices.Contains(v, "")
		}
		if empty {
			return fmt.Errorf("%s: is empty: give a value, or leave it out", name)
		}
	}
	return nil
}

// load reads the configuration.
func (g *globals) load() (*configs.Config, error) {
	if file, set := os.LookupEnv("PAYBELL_CONFIG"); set && file == "" && g.ConfigFile == "" {
		return nil, fmt.Errorf("%w: PAYBELL_CONFIG: is empty: name a file, or unset it", errConfig)
	}
	set := g.Set
	if g.DataDir != "" {
		set = append([]string{"data_dir=" + fmt.Sprintf("%q", g.DataDir)}, set...)
	}
	c, err := configs.Load(configs.Input{File: g.ConfigFile, Environ: os.Environ(), Set: set})
	if err != nil {
		return nil, badConfig(err)
	}
	return c, nil
}

// badConfig lists every problem on a line of its own.
func badConfig(err error) error {
	lines := configs.Problems(err)
	if len(lines) == 1 {
		return fmt.Errorf("%w: %s", errConfig, lines[0])
	}
	return fmt.Errorf("%w: %d problems:\n  %s", errConfig, len(lines), strings.Join(lines, "\n  "))
}

// newLogger logs to stderr, also how many lines that has dropped.
func newLogger(c *configs.Config, stderr *lines.Writer) *slog.Logger {
	to := func(w io.Writer) *slog.Logger {
		o := &slog.HandlerOptions{Level: c.Log.Level}
		if c.Log.Format == "json" {
			return slog.New(slog.NewJSONHandler(w, o))
		}
		return slog.New(slog.NewTextHandler(w, o))
	}
	stderr.Tell(func(dropped int) []byte {
		var b bytes.Buffer
		to(&b).Error("lines of the log were dropped: nobody read them in time, or they could not be written", "lines", dropped)
		return b.Bytes()
	})
	return to(stderr)
}

// startError tells problems that were found while starting like those that were
// found while loading, where the configuration cures them.
func startError(err error) error {
	if bad, ok := errors.AsType[*app.ConfigError](err); ok {
		return badConfig(bad.Err)
	}
	return err
}
