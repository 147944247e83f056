package gateway

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/gin-gonic/gin"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// callback takes one callback in: read, verify, decode, append, and only then
// reply.
func (g *Gateway) callback(c *gin.Context) {
	a := (*g.accounts.Load())[c.Param("account")]
	if a == nil {
		g.unknown(c)
		return
	}
	start := g.now()
	b, err := g.readBody(c.Request)
	defer func() { g.bodies.release(b.charged) }()
	answering(c.Request.Context(), err == nil)
	cb := &provider.Callback{
		Method: c.Request.Method, RawQuery: c.Request.URL.RawQuery, Header: c.Request.Header,
		Body: b.bytes, ReceivedAt: g.now(),
	}
	cb.ID = newCallbackID(cb.ReceivedAt)
	a.counts.took(stageRead, cb.ReceivedAt.Sub(start))

	var done receipt
	if err == nil {
		done, err = g.take(c.Request.Context(), a, cb)
	}
	v := judge(err)
	if err == nil {
		v.counted, v.reason = done.outcome()
	}
	v.reply(c.Writer, &a.answers)
	g.note(c.Request.Context(), a, cb, v, done, err)
}

// receipt is what an accepted callback became.
type receipt struct {
	records []event.Record
	results []event.Appended
	// undecodable is why an authentic callback is kept as it is and not as what it
	// says; nil when it could be read.
	undecodable error
}

// outcome is what an accepted callback is counted as. All have the same reply.
func (r receipt) outcome() (o outcome, reason string) {
	o = duplicate
	for _, result := range r.results {
		switch result {
		case event.Conflicting:
			return conflict, ""
		case event.Journaled:
			o = journaled
		case event.New:
			o = accepted
		default:
		}
	}
	if r.undecodable != nil {
		reason = reasonUndecodable
	}
	return o, reason
}

// take makes a callback durable or says why not. It holds one of the places of
// Options.MaxInFlight, which a sender of an unfinished body never does. A panic
// below it is our failure like any other.
func (g *Gateway) take(ctx context.Context, a *account, cb *provider.Callback) (done receipt, err error) {
	defer g.inFlight.Add(-1)
	if g.inFlight.Add(1) > int64(g.options.MaxInFlight) {
		return receipt{}, ErrBusy
	}
	defer contain(&err)

	verified, err := a.Provider.Verify(cb)
	if err != nil {
		return receipt{}, &stageError{"verify", g.clock.excuse(ctx, err)}
	}
	if verified == nil { // a verifier that says nothing has not said yes
		return receipt{}, errors.New("gateway: provider verified nothing")
	}
	decoded, err := a.Provider.Decode(cb, verified)
	if _, no := errors.AsType[*provider.Refusal](err); no {
		return receipt{}, &stageError{"decode", err}
	}
	if err == nil && len(decoded) == 0 {
		err = errNoEvents
	}
	if err != nil { // authentic all the same: never dropped in silence
		done.undecodable, decoded = err, unreadable()
	}
	done.records = a.complete(cb, verified, decoded)
	believed := g.now()
	a.counts.took(stageVerify, believed.Sub(cb.ReceivedAt))

	done.results, err = g.append(ctx, a, done.records)
	if errors.Is(err, event.ErrRecord) { // sending it again would not help the provider
		done.undecodable = err
		a.simplify(cb.Body, done.records)
		done.results, err = g.append(ctx, a, done.records)
	}
	a.counts.took(stageAppend, g.now().Sub(believed))
	return done, err
}

// stageError says in which stage a callback came to its end. Its text is made only when
// somebody reads it: of a flood of forgeries, hardly ever.
type stageError struct {
	stage string
	err   error
}

// Error implements error.
func (e *stageError) Error() string { return e.stage + ": " + e.err.Error() }

// Unwrap returns the cause.
func (e *stageError) Unwrap() error { return e.err }

// errNoEvents: a provider read a callback and found nothing in it.
var errNoEvents = errors.New("gateway: callback without events")

// errAppend marks what came out of the appender, whatever it is.
var errAppend = errors.New("gateway: append")

// append waits until every record is durable. A provider that hangs up does not
// stop it: what is half appended is better finished than left for the resend.
func (g *Gateway) append(ctx context.Context, a *account, records []event.Record) ([]event.Appended, error) {
	results, err := g.appender.Append(g.deadlines.of(ctx), a.Window, records)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAppend, err)
	}
	if len(results) != len(records) {
		return nil, ErrMiscounted
	}
	for _, result := range results {
		if result < event.New || result > event.Journaled {
			return nil, ErrMiscounted
		}
	}
	return results, nil
}

// contain turns a panic into an error. The panic's value is left out unless it
// is the runtime's own: it may quote the body.
func contain(err *error) {
	switch v := recover().(type) {
	case nil:
	case runtime.Error:
		*err = &panicked{value: v.Error(), stack: debug.Stack()}
	default:
		*err = &panicked{value: fmt.Sprintf("%T", v), stack: debug.Stack()}
	}
}

// panicked is a contained panic with the stack that leads to its cause.
type panicked struct {
	value string
	stack []byte
}

// Error implements error.
func (p *panicked) Error() string { return ErrPanic.Error() + ": " + p.value }

// Is makes a panicked an ErrPanic.
func (p *panicked) Is(target error) bool { return target == ErrPanic }
