package streams

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams/event"
)

// After the number of partitions was changed, most events are of another partition than
// before, and so are their marks. While the marks of before live, they are asked first:
// nothing is added to them any more, so what they say holds.

// unknown are those of the records that no former partition has a mark of. The outcome of
// the others is left in them, as is an error.
func (l *lane) unknown(ctx context.Context, records []*record) []*record {
	former := l.w.former()
	if len(former) == 0 {
		return records
	}
	for _, f := range former {
		records = l.ask(ctx, f, records)
	}
	return records
}

// ask asks the marks of former partitions, and returns the records that they do not have.
func (l *lane) ask(ctx context.Context, f former, records []*record) (fresh []*record) {
	var asked []*record
	var keys []string
	var marks []any
	for _, r := range records {
		window := r.section.lives
		if time.Since(f.until) > 2*window+clockError {
			fresh = append(fresh, r)
			continue
		}
		keys = append(keys, f.layout.Seen(f.layout.Partition(r.wire.Key()), window)...)
		marks = append(marks, r.mark[:])
		asked = append(asked, r)
	}
	if len(asked) > 0 {
		cmd := redis.NewSliceCmd(ctx, seenArgs("evalsha", seenScript.sha, keys, marks)...)
		_ = l.w.rdb.Process(ctx, cmd) // the command keeps its error
		if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
			cmd = redis.NewSliceCmd(ctx, seenArgs("eval", seenScript.text, keys, marks)...)
			_ = l.w.rdb.Process(ctx, cmd) // as above
		}
		answers, err := cmd.Result()
		if err == nil && len(answers) != len(asked) {
			err = errAnswer
		}
		for i, r := range asked {
			r.err = err
			if err != nil {
				continue
			}
			outcome, _ := answers[i].(int64)                         // the script answers numbers
			if r.outcome = event.Appended(outcome); r.outcome == 0 { //nolint:gosec // one of three
				fresh = append(fresh, r)
			}
		}
	}
	return fresh
}

// clockError is how much longer marks are asked than they live by our clock.
const clockError = time.Hour

func seenArgs(name, script string, keys []string, marks []any) []any {
	args := make([]any, 0, 3+len(keys)+len(marks))
	args = anys(append(args, name, script, len(keys)), keys)
	return append(args, marks...)
}

// former are the partitions whose marks have to be asked.
func (w *Writer) former() []former {
	if w.deployment == nil {
		return nil
	}
	return w.deployment.former()
}

// generation is the argument of append.lua.
func (w *Writer) generation() string {
	if w.deployment == nil {
		return "0"
	}
	return w.deployment.generation()
}

// isClosed reports whether append.lua found a gate closed.
func isClosed(err error) bool { return redis.HasErrorPrefix(err, "CLOSED") }

// renew reads the record of the deployment again. It reports whether the number of
// partitions is still the writer's, and was changed more often than a generation says.
func (w *Writer) renew(ctx context.Context, generation string) bool {
	return w.deployment != nil && w.deployment.Verify(ctx, w.rdb) == nil && w.generation() != generation
}
