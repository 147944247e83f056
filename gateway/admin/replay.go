package admin

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/paybell/paybell/streams"
)

// maxOrderBody bounds what an operator may send.
const maxOrderBody = 64 << 10

// ReplayRequest asks to deliver dead letters again, to their group alone.
type ReplayRequest struct {
	// IDs are the dead letters, as a list names them.
	IDs []string `json:"ids" validate:"required,min=1,max=500,dive,required,max=64"`
}

// DropRequest asks to end dead letters for good.
type DropRequest struct {
	IDs []string `json:"ids" validate:"required,min=1,max=500,dive,required,max=64"`
	// Because is why; it is logged with each of them.
	Because string `json:"because" validate:"required,max=512"`
}

// DeadLetterResults is the answer to both.
type DeadLetterResults struct {
	Results []streams.DeadLetterResult `json:"results"`
	// Problem says why the rest was not come to; empty where there is none.
	Problem string `json:"problem,omitempty"`
}

func (a *Admin) replayDeadLetters(c *gin.Context) {
	var want ReplayRequest
	if !a.letters(c, &want) {
		return
	}
	group := pathParam(c, "group")
	results, err := a.deps.DeadLetters.Replay(c.Request.Context(), group, want.IDs)
	a.done(c, group, "", results, streams.Replayed, err)
}

func (a *Admin) dropDeadLetters(c *gin.Context) {
	var want DropRequest
	if !a.letters(c, &want) {
		return
	}
	group := pathParam(c, "group")
	results, err := a.deps.DeadLetters.Drop(c.Request.Context(), group, want.IDs)
	a.done(c, group, want.Because, results, streams.Dropped, err)
}

// order reads what an operator asks to be done, and answers where it cannot be. Only
// JSON is taken: a page of another site cannot send that without being asked for
// permission first.
func (a *Admin) order(c *gin.Context, want any) bool {
	if !newQuery(c).check(c, a.validate, struct{}{}) {
		return false
	}
	if kind, _, err := mime.ParseMediaType(c.GetHeader("Content-Type")); err != nil || kind != "application/json" {
		fail(c, http.StatusUnsupportedMediaType, "unsupported_media_type", "send application/json")
		return false
	}
	body := json.NewDecoder(http.MaxBytesReader(c.Writer, c.Request.Body, maxOrderBody))
	body.DisallowUnknownFields()
	if err := body.Decode(want); err != nil || !errors.Is(body.Decode(&struct{}{}), io.EOF) {
		fail(c, http.StatusBadRequest, "bad_request", "the body is no JSON object of the form asked for")
		return false
	}
	q := query{names: map[string]string{"IDs": "ids", "Because": "because"}}
	return q.check(c, a.validate, want)
}

// letters reads what an operator asks to be done to dead letters, likewise.
func (a *Admin) letters(c *gin.Context, want any) bool {
	if !a.order(c, want) {
		return false
	}
	if a.deps.DeadLetters == nil {
		notHere(c, "streams")
		return false
	}
	return true
}

// done answers, and logs who did what to which dead letters. What had been done when
// a call failed is told as well.
func (a *Admin) done(c *gin.Context, group, because string, results []streams.DeadLetterResult, done streams.ReplayOutcome, err error) {
	for _, r := range results {
		if r.Outcome == done {
			a.deps.Logger.LogAttrs(c.Request.Context(), slog.LevelInfo, "dead letter taken by an operator",
				slog.String("group", group), slog.String("dead_letter", r.ID), slog.String("outcome", string(r.Outcome)),
				slog.String("because", oneLine(because)), slog.String("remote", c.Request.RemoteAddr))
		}
	}
	if err != nil && len(results) == 0 {
		a.trouble(c, err)
		return
	}
	answer := DeadLetterResults{Results: results}
	if err != nil {
		answer.Problem = err.Error()
	}
	respond(c, http.StatusOK, answer)
}

// oneLine keeps what was typed on the line of the log it belongs to.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
