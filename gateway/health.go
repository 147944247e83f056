package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
)

// How long an answer of Deps.Ready is reused, and how long one may take. Anyone
// may ask /readyz as often as they like.
const (
	readyFresh   = time.Second
	readyTimeout = time.Second
)

// health answers whether the process lives and whether it can keep a callback.
type health struct {
	check   func(ctx context.Context) error
	keeps   func() string
	now     func() time.Time
	log     *slog.Logger
	clock   *clock
	closing atomic.Bool

	mu     sync.Mutex // held while checking: one check serves all who wait
	asked  time.Time
	answer error
}

func newHealth(d Deps, c *clock) *health {
	return &health{check: d.Ready, keeps: d.Keeps, now: d.Now, log: d.Logger, clock: c}
}

// live says that the process serves requests, and nothing else.
func (h *health) live(c *gin.Context) { sendPlain(c.Writer, http.StatusOK, "ok\n") }

// ready says whether a callback can be believed and kept now, and if not why, in words that
// tell a stranger nothing about what stands behind the door.
func (h *health) ready(c *gin.Context) {
	c.Writer.Header().Set("Cache-Control", "no-store")
	if h.closing.Load() {
		sendPlain(c.Writer, http.StatusServiceUnavailable, "not ready: the door is closing\n")
		return
	}
	err := h.ask(c.Request.Context())
	if err == nil {
		h.clock.compare(c.Request.Context())
		err = h.clock.off()
	}
	if err == nil {
		text := "ready\n"
		if h.keeps != nil {
			text = "ready: " + h.keeps() + "\n"
		}
		sendPlain(c.Writer, http.StatusOK, text)
		return
	}
	sendPlain(c.Writer, http.StatusServiceUnavailable, "not ready: "+publicReason(err)+"\n")
}

// ask runs the check at most once in readyFresh, whoever asks and leaves.
func (h *health) ask(ctx context.Context) error {
	if h.check == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := h.now(); h.asked.IsZero() || now.Sub(h.asked) >= readyFresh {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
		defer cancel()
		before := h.answer
		h.answer = h.checkContained(ctx)
		h.asked = h.now()
		h.tell(ctx, before)
	}
	return h.answer
}

// checkContained keeps a panic of the check from being taken for an answer.
func (h *health) checkContained(ctx context.Context) (err error) {
	defer contain(&err)
	return h.check(ctx)
}

// tell logs that the answer changed: /readyz keeps the cause to itself.
func (h *health) tell(ctx context.Context, before error) {
	switch {
	case h.answer != nil && before == nil:
		h.log.LogAttrs(ctx, slog.LevelError, "gateway not ready", slog.Any("err", h.answer))
	case h.answer == nil && before != nil:
		h.log.LogAttrs(ctx, slog.LevelInfo, "gateway ready again")
	}
}

// publicReason is what an error allows to be said in public.
func publicReason(err error) string {
	if public, ok := errors.AsType[interface {
		error
		PublicReason() string
	}](err); ok {
		return public.PublicReason()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "the event store does not answer in time"
	}
	return "the event store cannot take callbacks"
}
