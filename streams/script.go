package streams

import (
	"context"
	"crypto/sha1" //nolint:gosec // EVALSHA names scripts by it
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// The scripts answer with a status and never raise what can be expected, because
// the text of a raised error differs between engines. All keys of one call share
// a hash tag. Lua unpacks at most a few thousand values, so callers cut their
// lists (maxIDs, maxDead). Nothing goes through cjson, which is not binary safe
// everywhere. Above each stand its KEYS and ARGV, and what it answers.
//
//go:embed scripts/*.lua
var scriptFiles embed.FS

// evenFull lets a script write although the server has reached its memory limit.
// Appending must not: that is what the limit is for. But what was appended has to
// be worked off, and the little that leases and attempts need is there for it.
const evenFull = "#!lua flags=allow-oom\n"

// source is Lua text and the digest Redis knows it by.
type source struct{ text, sha string }

func newSource(text string) source {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // EVALSHA names scripts by it
	return source{text: text, sha: hex.EncodeToString(sum[:])}
}

// lua is the text of files of scripts/, one after another.
func lua(names ...string) string {
	var b strings.Builder
	for _, name := range names {
		text, err := scriptFiles.ReadFile("scripts/" + name + ".lua")
		if err != nil {
			panic(err) // a name of the table below that is no file
		}
		b.Write(text)
	}
	return b.String()
}

// script is a Lua script of a group, in two forms: with evenFull, and plain for an
// engine that cannot read that line.
type script struct {
	name           string
	flagged, plain source
}

// newScript is the script of the last file, with what goes before it.
func newScript(files ...string) *script {
	text := lua(files...)
	return &script{name: files[len(files)-1], flagged: newSource(evenFull + text), plain: newSource(text)}
}

// The scripts, by what they do. Those that a lease fences begin with owned.
var (
	appendScript     = newSource(lua("marks", "append"))
	seenScript       = newSource(lua("marks", "seen"))
	deploymentScript = newSource(lua("deployment"))

	leaseScript     = newScript("lease")
	releaseScript   = newScript("owned", "release")
	takeScript      = newScript("owned", "take")
	adoptScript     = newScript("owned", "adopt")
	backlogScript   = newScript("owned", "backlog")
	chargeScript    = newScript("owned", "charge")
	againScript     = newScript("parcel", "unread", "again")
	buriedScript    = newScript("buried")
	rewindScript    = newScript("owned", "unread", "account", "rewind")
	settleScript    = newScript("owned", "parcel", "settle")
	parkScript      = newScript("owned", "parcel", "park")
	parkedScript    = newScript("owned", "parcel", "parked")
	unpackScript    = newScript("owned", "parcel", "unpack")
	janitorScript   = newScript("owned", "janitor")
	heartbeatScript = newScript("heartbeat")
	createScript    = newScript("unread", "account", "create")
	replayScript    = newScript("parcel", "replay")
	dropScript      = newScript("parcel", "drop")
	ledgerScript    = newScript("unread", "account", "ledger")
	lagScript       = newScript("unread", "account", "lag")
	trimScript      = newScript("unread", "account", "declared", "trim")
	auditScript     = newScript("unread", "account", "declared", "audit")
	trimmerScript   = newScript("trimmer")
	closeScript     = newScript("close")
	openScript      = newScript("open")
	changeScript    = newScript("unread", "account", "parcel", "change")

	acknowledgeScript = newScript("acknowledge")

	groupScripts = []*script{
		leaseScript, releaseScript, takeScript, adoptScript, backlogScript,
		chargeScript, settleScript, parkScript, parkedScript, unpackScript, janitorScript, heartbeatScript, createScript,
	}
)

// What the scripts answer first.
const (
	statusOK      = 1
	statusLost    = 0
	statusNoGroup = -1
	statusFailed  = -2
)

// maxIDs and maxDead bound the lists of one call.
const (
	maxIDs  = 1000
	maxDead = 200
)

// errNoGroup is the script's answer that the group, or its stream, is not there.
var errNoGroup = errors.New("streams: the group is missing")

// loadScripts runs on every new connection, so that a server that was restarted
// or promoted knows the scripts before it is asked for one. A server that refuses
// is not an error here: run and the writer send the source where it is missing.
func loadScripts(ctx context.Context, c *redis.Conn) error {
	pipe := c.Pipeline()
	pipe.ScriptLoad(ctx, appendScript.text)
	for _, s := range groupScripts {
		pipe.ScriptLoad(ctx, s.flagged.text)
	}
	_, _ = pipe.Exec(ctx) // see above
	return nil
}

func newRunner(rdb Client) *runner {
	return &runner{rdb: rdb, together: joined{rdb: rdb}, leases: joined{rdb: rdb}}
}

// runner runs the scripts of a group on one server.
type runner struct {
	rdb Client
	// together joins the calls of short scripts that partitions make at the same time.
	// Leases have a line of their own: they must be renewed whatever else goes on.
	together, leases joined
	// plain is set once the server has shown that it cannot read evenFull.
	plain atomic.Bool
}

// run runs a script, with its source where the server does not know it.
func (r *runner) run(ctx context.Context, s *script, keys []string, args ...any) ([]any, error) {
	var line *joined
	switch s {
	case takeScript, chargeScript, settleScript:
		line = &r.together
	case leaseScript:
		line = &r.leases
	}
	var cmd *redis.Cmd
	if !r.plain.Load() {
		cmd = r.eval(ctx, line, &s.flagged, keys, args)
		if redis.HasErrorPrefix(cmd.Err(), "Error compiling script") {
			r.plain.Store(true)
		}
	}
	if r.plain.Load() {
		cmd = r.eval(ctx, line, &s.plain, keys, args)
	}
	reply, err := cmd.Slice()
	if err != nil {
		return nil, unavailable("streams: "+s.name, err)
	}
	if len(reply) == 0 {
		return nil, fmt.Errorf("streams: %s: empty answer", s.name)
	}
	status, ok := reply[0].(int64)
	if !ok {
		return nil, fmt.Errorf("streams: %s: answer without a status", s.name)
	}
	switch status {
	case statusOK:
		return reply[1:], nil
	case statusLost:
		return reply[1:], fmt.Errorf("streams: %s: %w", s.name, ErrLeaseLost)
	case statusNoGroup:
		return nil, errNoGroup
	default:
		text, _ := at(reply, 1).(string) // an unknown answer has no text to add
		return nil, unavailable("streams: "+s.name, fmt.Errorf("redis answered %q", text))
	}
}

func (r *runner) eval(ctx context.Context, line *joined, s *source, keys []string, args []any) *redis.Cmd {
	cmd := newEval(ctx, "evalsha", s.sha, keys, args)
	if line == nil {
		_ = r.rdb.Process(ctx, cmd) // the command keeps its error
	} else {
		line.do(ctx, cmd)
	}
	if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
		cmd = newEval(ctx, "eval", s.text, keys, args)
		_ = r.rdb.Process(ctx, cmd) // as above
	}
	return cmd
}

func newEval(ctx context.Context, name, script string, keys []string, args []any) *redis.Cmd {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = anys(append(all, name, script, len(keys)), keys)
	cmd := redis.NewCmd(ctx, append(all, args...)...)
	cmd.SetFirstKeyPos(3)
	return cmd
}

// at is reply[i], or nil where there is none.
func at(reply []any, i int) any {
	if i < len(reply) {
		return reply[i]
	}
	return nil
}
