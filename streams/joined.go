package streams

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// joined sends commands that are asked for at the same time as one pipeline: while one is
// on its way, the next is put together. A command that comes alone is sent at once.
type joined struct {
	rdb Client

	mu      sync.Mutex
	sending bool
	waiting []*joinedCmd
}

// joinedMost bounds the commands of a pipeline.
const joinedMost = 64

// joinedCmd is a command with its caller, who is told that it was sent, or that it is his
// turn to send.
type joinedCmd struct {
	cmd  redis.Cmder
	told chan bool
}

// do sends a command and waits for its answer, which is in the command. Like every command,
// it does not end with its caller's context once it is on its way.
func (j *joined) do(ctx context.Context, cmd redis.Cmder) {
	if err := ctx.Err(); err != nil {
		cmd.SetErr(context.Cause(ctx))
		return
	}
	mine := &joinedCmd{cmd: cmd, told: make(chan bool, 1)}
	j.mu.Lock()
	j.waiting = append(j.waiting, mine)
	if j.sending {
		j.mu.Unlock()
		if sent := <-mine.told; sent {
			return
		}
		j.mu.Lock()
	}
	j.sending = true
	n := min(len(j.waiting), joinedMost)
	batch := j.waiting[:n:n]
	j.waiting = j.waiting[n:]
	j.mu.Unlock()

	j.send(context.WithoutCancel(ctx), batch)

	j.mu.Lock()
	if len(j.waiting) > 0 {
		j.waiting[0].told <- false // the next one sends, and j.sending stays
	} else {
		j.sending, j.waiting = false, nil
	}
	j.mu.Unlock()
	for _, c := range batch {
		if c != mine {
			c.told <- true
		}
	}
}

func (j *joined) send(ctx context.Context, batch []*joinedCmd) {
	if len(batch) == 1 {
		_ = j.rdb.Process(ctx, batch[0].cmd) // the command keeps its error
		return
	}
	pipe := j.rdb.Pipeline()
	for _, c := range batch {
		_ = pipe.Process(ctx, c.cmd) // it only queues
	}
	_, _ = pipe.Exec(ctx) // says what the first failed command says; all are looked at one by one
}
