package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"

	"github.com/paybell/paybell/gateway/provider"
)

// How much of what strangers can cause reaches the log, per account.
const (
	quietBurst = 10
	quietEvery = time.Second
)

// quietLog is a log that strangers cannot fill: beyond its rate lines are only
// counted, and the next line says how many were.
type quietLog struct {
	log     *slog.Logger
	limit   *rate.Limiter
	skipped atomic.Int64
}

func newQuietLog(log *slog.Logger) *quietLog {
	return &quietLog{log: log, limit: rate.NewLimiter(rate.Every(quietEvery), quietBurst)}
}

// write logs a line if the rate allows. The attributes are made only then.
func (q *quietLog) write(ctx context.Context, at time.Time, level slog.Level, msg string, attrs func() []slog.Attr) {
	if !q.log.Enabled(ctx, level) {
		return
	}
	if !q.limit.AllowN(at, 1) {
		q.skipped.Add(1)
		return
	}
	line := attrs()
	if n := q.skipped.Swap(0); n > 0 {
		line = append(line, slog.Int64("lines_left_out", n))
	}
	q.log.LogAttrs(ctx, level, msg, line...) //nolint:sloglint // the callers' messages are constants
}

// note counts a callback and logs it: what was accepted for who asks for it, what
// was not under a rate limit. No body, signature or header value is logged.
func (g *Gateway) note(ctx context.Context, a *account, cb *provider.Callback, v verdict, done receipt, err error) {
	a.counts.callback(v, len(cb.Body), done)
	switch v.counted {
	case accepted, duplicate, journaled:
		if done.undecodable != nil {
			a.quiet.write(ctx, cb.ReceivedAt, slog.LevelWarn, "callback kept without being understood", func() []slog.Attr {
				// The text may quote the body; the kind of error does not.
				return append(facts(cb, v), slog.String("err_type", rootType(done.undecodable)))
			})
			return
		}
		if a.quiet.log.Enabled(ctx, slog.LevelDebug) {
			a.quiet.log.LogAttrs(ctx, slog.LevelDebug, "callback accepted",
				slog.String("callback_id", cb.ID), slog.String("outcome", string(v.counted)),
				slog.Any("event", done.records[0].Event), slog.Int("events", len(done.records)))
		}
	case conflict:
		a.quiet.write(ctx, cb.ReceivedAt, slog.LevelWarn, "callback in conflict with an earlier one", func() []slog.Attr {
			return append(facts(cb, v), slog.Any("event", done.records[0].Event))
		})
	case retry:
		a.quiet.write(ctx, cb.ReceivedAt, slog.LevelError, "callback not kept, provider asked to send it again", func() []slog.Attr {
			return append(facts(cb, v), trouble(err)...)
		})
	default:
		a.quiet.write(ctx, cb.ReceivedAt, slog.LevelWarn, "callback refused", func() []slog.Attr {
			return append(facts(cb, v), trouble(err)...)
		})
	}
}

// facts tell callbacks apart without telling what is in them.
func facts(cb *provider.Callback, v verdict) []slog.Attr {
	return []slog.Attr{
		slog.String("outcome", string(v.counted)), slog.String("reason", v.reason),
		slog.String("callback_id", cb.ID), slog.String("sha256", digest(cb.Body)), slog.Int("size", len(cb.Body)),
	}
}

// rootType names the type of the innermost error.
func rootType(err error) string {
	for next := err; next != nil; next = errors.Unwrap(next) {
		err = next
	}
	return fmt.Sprintf("%T", err)
}

// trouble is an error as the log shows it, with the stack of a panic.
func trouble(err error) []slog.Attr {
	attrs := []slog.Attr{slog.Any("err", err)}
	if p, ok := errors.AsType[*panicked](err); ok {
		attrs = append(attrs, slog.String("stack", string(p.stack)))
	}
	return attrs
}

// stray answers a request that is for no account. The path is the sender's to
// choose: the log gets a piece of it, the metrics nothing.
func (g *Gateway) stray(status int, reason string) gin.HandlerFunc {
	text := http.StatusText(status) + "\n"
	count := g.metrics.callbacks.WithLabelValues(nobody, nobody, string(rejected), reason)
	return func(c *gin.Context) {
		sendPlain(c.Writer, status, text)
		count.Inc()
		g.strays.write(c.Request.Context(), g.now(), slog.LevelInfo, "request for no account", func() []slog.Attr {
			path := c.Request.URL.Path
			return []slog.Attr{
				slog.String("reason", reason), slog.String("method", c.Request.Method[:min(len(c.Request.Method), 16)]),
				slog.String("path", path[:min(len(path), 96)]),
			}
		})
	}
}
