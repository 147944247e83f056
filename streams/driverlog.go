package streams

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// LogDriver sends what the Redis client library has to say to a logger, at debug
// level: every error it tells of is also returned to a caller, who says it once. It
// changes the whole process, so it is for main alone.
func LogDriver(log *slog.Logger) { redis.SetLogger(driverLog{log}) }

type driverLog struct{ log *slog.Logger }

// Printf implements the library's logger.
func (d driverLog) Printf(ctx context.Context, format string, v ...any) {
	if d.log.Enabled(ctx, slog.LevelDebug) {
		d.log.DebugContext(ctx, "redis client", "text", fmt.Sprintf(format, v...))
	}
}
