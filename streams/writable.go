package streams

import "context"

// probe is a script that may write and does not. Redis refuses it as it refuses an
// append: without memory, as a replica, while it loads, when its disk fails.
const probe = "#!lua\nreturn 1"

// Writable is nil when the server would take an append now. The embedded engine
// knows no such script.
func Writable(ctx context.Context, rdb Client) error {
	if err := rdb.Eval(ctx, probe, nil).Err(); err != nil {
		return unavailable("streams: ask whether an append would be taken", err)
	}
	return nil
}
