package streams

import (
	"context"
	"crypto/sha1" //nolint:gosec // EVALSHA names scripts by it
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"

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
	//go:embed janitor.lua
	janitorLua string
	//go:embed heartbeat.lua
	heartbeatLua string
)

// script is a Lua script and the digest Redis knows it by.
type script struct{ name, src, sha string }

func newScript(name, src string) *script {
	sum := sha1.Sum([]byte(src)) //nolint:gosec // EVALSHA names scripts by it
	return &script{name: name, src: src, sha: hex.EncodeToString(sum[:])}
}

// scripts, by what they do. Those that a lease fences begin with owned.lua.
var (
	appendScript    = newScript("append", appendLua)
	leaseScript     = newScript("lease", leaseLua)
	releaseScript   = newScript("release", ownedLua+releaseLua)
	takeScript      = newScript("take", ownedLua+takeLua)
	adoptScript     = newScript("adopt", ownedLua+adoptLua)
	backlogScript   = newScript("backlog", ownedLua+backlogLua)
	chargeScript    = newScript("charge", ownedLua+chargeLua)
	settleScript    = newScript("settle", ownedLua+settleLua)
	janitorScript   = newScript("janitor", ownedLua+janitorLua)
	heartbeatScript = newScript("heartbeat", heartbeatLua)

	allScripts = []*script{
		appendScript, leaseScript, releaseScript, takeScript, adoptScript, backlogScript,
		chargeScript, settleScript, janitorScript, heartbeatScript,
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
var errNoGroup = errors.New("streams: no such group")

// loadScripts runs on every new connection, so that a server that was restarted
// or promoted knows the scripts before it is asked for one. A server that refuses
// is not an error here: run and the writer send the source where it is missing.
func loadScripts(ctx context.Context, c *redis.Conn) error {
	pipe := c.Pipeline()
	for _, s := range allScripts {
		pipe.ScriptLoad(ctx, s.src)
	}
	_, _ = pipe.Exec(ctx) // see above
	return nil
}

// run runs a script, with its source where the server does not know it.
func (s *script) run(ctx context.Context, rdb Client, keys []string, args ...any) ([]any, error) {
	cmd := rdb.EvalSha(ctx, s.sha, keys, args...)
	if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
		cmd = rdb.Eval(ctx, s.src, keys, args...)
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

// at is reply[i], or nil where there is none.
func at(reply []any, i int) any {
	if i < len(reply) {
		return reply[i]
	}
	return nil
}
