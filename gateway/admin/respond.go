package admin

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"github.com/paybell/paybell/streams"
)

// failure is the body of every answer that is no success.
type failure struct {
	Error failureText `json:"error"`
}

type failureText struct {
	// Code is for programs, Message for people.
	Code    string `json:"code"`
	Message string `json:"message"`
	// Problems are the parameters that were wrong.
	Problems []problem `json:"problems,omitempty"`
}

// problem is what is wrong with one parameter.
type problem struct {
	Parameter string `json:"parameter"`
	Problem   string `json:"problem"`
}

// respond writes JSON that a person can read in a terminal.
func respond(c *gin.Context, status int, v any) {
	c.Header("Content-Type", "application/json; charset=utf-8")
	c.Status(status)
	out := json.NewEncoder(c.Writer)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	_ = out.Encode(v) // the answer's types all encode; a caller who hung up has nobody to tell
}

func fail(c *gin.Context, status int, code, message string, problems ...problem) {
	respond(c, status, failure{failureText{Code: code, Message: message, Problems: problems}})
}

// notHere answers for a part that this process does not have.
func notHere(c *gin.Context, what string) {
	fail(c, http.StatusNotImplemented, "not_here", "this process has no "+what)
}

// trouble answers for a source that returned an error.
func (a *Admin) trouble(c *gin.Context, err error) {
	switch {
	case errors.Is(err, ErrNoOrder), errors.Is(err, streams.ErrNoDeadLetter), errors.Is(err, streams.ErrUnknownGroup):
		fail(c, http.StatusNotFound, "not_found", err.Error())
	case errors.Is(err, streams.ErrDeadLetterID):
		fail(c, http.StatusBadRequest, "bad_request", err.Error())
	default:
		a.deps.Logger.LogAttrs(c.Request.Context(), slog.LevelWarn, "operator request failed",
			slog.String("path", c.FullPath()), slog.Any("err", err))
		fail(c, http.StatusServiceUnavailable, "unavailable", err.Error())
	}
}

// pathParam is a part of the path, unescaped.
func pathParam(c *gin.Context, name string) string {
	text, err := url.PathUnescape(c.Param(name))
	if err != nil {
		return c.Param(name) // net/http has refused such a path already
	}
	return text
}
