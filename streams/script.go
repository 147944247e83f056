package streams

import (
	"context"
	"crypto/sha1" //nolint:gosec // EVALSHA names scripts by it
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// The scripts answer with a status and never raise what can be expected, because
// the text of a raised error differs between engines. All keys of one call share
// a hash tag. Lua unpacks at most a few thousand values, so callers cut their
// lists (maxIDs, maxDead). Nothing goes through cjson, which is not binary safe
// everywhere.
var (
	//go:embed append.lua
	appendLua string
	//go:embed lease.lua
	leaseLua string
	//go:embed release.lua
	releaseLua string
	//go:embed owned.lua
	ownedLua string
	//go:embed take.lua
	takeLua string
	//go:embed adopt.lua
	adoptLua string
	//go:embed backlog.lua
	backlogLua string
	//go:embed charge.lua
	chargeLua string
	//go:embed settle.lua
	settleLua string
	//go:embed parcel.lua
	parcelLua string
	//go:embed park.lua
	parkLua string
	//go:embed parked.lua
	parkedLua string
	//go:embed unpack.lua
	unpackLua string
	//go:embed replay.lua
	replayLua string
	//go:embed drop.lua
	dropLua string
	//go:embed janitor.lua
	janitorLua string
	//go:embed heartbeat.lua
	heartbeatLua string
	//go:embed account.lua
	accountLua string
	//go:embed create.lua
	createLua string
	//go:embed ledger.lua
	ledgerLua string
)

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

// script is a Lua script of a group, in two forms: with evenFull, and plain for an
// engine that cannot read that line.
type script struct {
	name           string
	flagged, plain source
}

func newScript(name, text string) *script {
	return &script{name: name, flagged: newSource(evenFull + text), plain: newSource(text)}
}

// The scripts, by what they do. Those that a lease fences begin with owned.lua.
var (
	appendScript = newSource(appendLua)

	leaseScript     = newScript("lease", leaseLua)
	releaseScript   = newScript("release", ownedLua+releaseLua)
	takeScript      = newScript("take", ownedLua+takeLua)
	adoptScript     = newScript("adopt", ownedLua+adoptLua)
	backlogScript   = newScript("backlog", ownedLua+backlogLua)
	chargeScript    = newScript("charge", ownedLua+chargeLua)
	settleScript    = newScript("settle", ownedLua+parcelLua+settleLua)
	parkScript      = newScript("park", ownedLua+parcelLua+parkLua)
	parkedScript    = newScript("parked", ownedLua+parcelLua+parkedLua)
	unpackScript    = newScript("unpack", ownedLua+parcelLua+unpackLua)
	replayScript    = newScript("replay", parcelLua+replayLua)
	dropScript      = newScript("drop", parcelLua+dropLua)
	janitorScript   = newScript("janitor", ownedLua+janitorLua)
	heartbeatScript = newScript("heartbeat", heartbeatLua)
	createScript    = newScript("create", accountLua+createLua)
	ledgerScript    = newScript("ledger", accountLua+ledgerLua)

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

// runner runs the scripts of a group on one server.
type runner struct {
	rdb Client
	// plain is set once the server has shown that it cannot read evenFull.
	plain atomic.Bool
}

// run runs a script, with its source where the server does not know it.
func (r *runner) run(ctx context.Context, s *script, keys []string, args ...any) ([]any, error) {
	var cmd *redis.Cmd
	if !r.plain.Load() {
		cmd = r.eval(ctx, &s.flagged, keys, args)
		if redis.HasErrorPrefix(cmd.Err(), "Error compiling script") {
			r.plain.Store(true)
		}
	}
	if r.plain.Load() {
		cmd = r.eval(ctx, &s.plain, keys, args)
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

func (r *runner) eval(ctx context.Context, s *source, keys []string, args []any) *redis.Cmd {
	cmd := r.rdb.EvalSha(ctx, s.sha, keys, args...)
	if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
		cmd = r.rdb.Eval(ctx, s.text, keys, args...)
	}
	return cmd
}

// at is reply[i], or nil where there is none.
func at(reply []any, i int) any {
	if i < len(reply) {
		return reply[i]
	}
	return nil
}
