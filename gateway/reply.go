package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/paybell/paybell/gateway/provider"
)

// verdict is what a callback came to: the provider's own words, or, where the
// request never got as far as the provider, a plain status.
type verdict struct {
	// outcome chooses the provider's words; 0 means that status is all there is.
	outcome provider.Outcome
	status  int
	// hangUp closes the connection: the rest of the body is not wanted.
	hangUp bool
	// counted and reason are what the metrics and the log call it.
	counted outcome
	reason  string
}

// judge is the one table from an error to a reply. The sender's fault is 4xx,
// ours is the provider's retryable reply, and an unknown error is ours.
func judge(err error) verdict {
	if err == nil {
		return verdict{outcome: provider.Accepted, counted: accepted}
	}
	// What comes out of the appender is ours, whatever it is made of.
	if errors.Is(err, errAppend) {
		return verdict{outcome: provider.Retry, counted: retry, reason: appendReason(err)}
	}
	// It is authentic, and its time may be right.
	if errors.Is(err, ErrClock) {
		return verdict{outcome: provider.Retry, counted: retry, reason: "clock"}
	}
	// The provider's package does not believe it or cannot find what is signed.
	if refusal, ok := errors.AsType[*provider.Refusal](err); ok {
		return judgeRefusal(refusal.Reason)
	}
	switch {
	// The request is not one that any provider sends.
	case errors.Is(err, ErrBodyTooLarge):
		return verdict{status: http.StatusRequestEntityTooLarge, hangUp: true, counted: rejected, reason: "too_large"}
	case errors.Is(err, ErrEncoding):
		return verdict{status: http.StatusUnsupportedMediaType, counted: rejected, reason: "content_encoding"}
	case errors.Is(err, ErrSlowBody):
		return verdict{status: http.StatusRequestTimeout, hangUp: true, counted: rejected, reason: "slow_body"}
	case errors.Is(err, ErrBrokenBody):
		return verdict{status: http.StatusBadRequest, hangUp: true, counted: rejected, reason: "broken_body"}

	// Our own limits and failures.
	case errors.Is(err, ErrBodyMemory):
		return verdict{outcome: provider.Retry, hangUp: true, counted: retry, reason: "body_memory"}
	case errors.Is(err, ErrBusy):
		return verdict{outcome: provider.Retry, counted: retry, reason: "busy"}
	case errors.Is(err, ErrPanic):
		return verdict{outcome: provider.Retry, counted: retry, reason: "panic"}
	default:
		return verdict{outcome: provider.Retry, counted: retry, reason: "internal"}
	}
}

// appendReason tells the ways apart in which an append did not happen.
func appendReason(err error) string {
	var full overloaded
	switch {
	case errors.As(err, &full) && full.Overloaded():
		return "overloaded"
	case errors.Is(err, context.DeadlineExceeded):
		return "append_timeout"
	default:
		return "append_failed"
	}
}

// judgeRefusal words a refusal. Without a key there is nothing to tell a true
// callback from a forged one: it is not believed and not stored, but the fault is
// ours, so the provider is asked to come again rather than told to give up.
func judgeRefusal(reason provider.Reason) verdict {
	switch reason {
	case provider.ReasonNoKey:
		return verdict{outcome: provider.Retry, counted: retry, reason: string(reason)}
	case provider.ReasonMalformedBody:
		return verdict{outcome: provider.Malformed, counted: malformed, reason: string(reason)}
	case provider.ReasonMissingSignature, provider.ReasonMalformedSignature, provider.ReasonAmbiguous,
		provider.ReasonMismatch, provider.ReasonUnknownKey, provider.ReasonStale, provider.ReasonFuture,
		provider.ReasonProbe, provider.ReasonIdentity, provider.ReasonUnsupported:
		return verdict{outcome: provider.Refused, counted: refused, reason: string(reason)}
	default: // a reason outside the closed list must not become a metric label
		return verdict{outcome: provider.Refused, counted: refused, reason: "other"}
	}
}

// answer is a provider's reply ready to be sent. Its slices are shared by all
// replies and never changed, so a duplicate's bytes are those of the first.
type answer struct {
	status      int
	contentType []string
	length      []string
	retryAfter  []string
	body        []byte
}

// answers holds an account's answer for every outcome.
type answers [provider.Retry + 1]answer

// newAnswers asks the provider for its words once and holds them to what every
// provider's words must satisfy.
func newAnswers(p provider.Provider, retryAfter time.Duration) (a answers, err error) {
	for o := provider.Accepted; o <= provider.Retry; o++ {
		r := p.Reply(o)
		a[o] = answer{
			status: r.Status,
			length: []string{strconv.Itoa(len(r.Body))},
			body:   append([]byte(nil), r.Body...),
		}
		if r.ContentType != "" {
			a[o].contentType = []string{r.ContentType}
		}
		if r.Status == http.StatusNoContent {
			a[o].length = nil
		}
	}
	// A whole second is the header's unit, and never none: 0 means "at once".
	seconds := max(1, int64((retryAfter+time.Second-1)/time.Second))
	a[provider.Retry].retryAfter = []string{strconv.FormatInt(seconds, 10)}

	class := func(o provider.Outcome) int { return a[o].status / 100 }
	switch {
	case class(provider.Accepted) != 2:
		err = fmt.Errorf("accepted is worded with status %d, not 2xx", a[provider.Accepted].status)
	case class(provider.Refused) != 4:
		err = fmt.Errorf("refused is worded with status %d, not 4xx", a[provider.Refused].status)
	case class(provider.Malformed) != 4:
		err = fmt.Errorf("malformed is worded with status %d, not 4xx", a[provider.Malformed].status)
	case class(provider.Retry) != 5:
		err = fmt.Errorf("retry is worded with status %d, not 5xx", a[provider.Retry].status)
	case a[provider.Accepted].status == http.StatusNoContent && len(a[provider.Accepted].body) > 0:
		err = errors.New("accepted is worded with status 204 and a body")
	}
	return a, err
}

// reply sends what the verdict says.
func (v verdict) reply(w http.ResponseWriter, words *answers) {
	h := w.Header()
	if v.hangUp {
		h["Connection"] = closing
	}
	if v.outcome == 0 {
		sendPlain(w, v.status, http.StatusText(v.status)+"\n")
		return
	}
	a := &words[v.outcome]
	h["Content-Type"] = a.contentType // nil keeps net/http from guessing one
	if a.length != nil {
		h["Content-Length"] = a.length
	}
	if a.retryAfter != nil {
		h["Retry-After"] = a.retryAfter
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // a provider that does not hear its reply sends again
}

// Header values that never change.
var (
	closing   = []string{"close"}
	plainText = []string{"text/plain; charset=utf-8"}
)

// sendPlain answers whoever does not speak a provider's protocol.
func sendPlain(w http.ResponseWriter, status int, text string) {
	w.Header()["Content-Type"] = plainText
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // nobody is owed this text
}
