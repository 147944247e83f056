// Package gateway is the public door: it receives callbacks over HTTP, has the
// account's provider verify and decode them, appends the events and only then
// replies. It knows no Redis, no worker and no provider by name.
//
// What it promises: a success reply leaves only after every event of the callback
// is durable; what goes wrong on our side, a panic included, is the provider's
// retryable reply and never a 4xx; what is not believed never becomes an event.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// Appender makes records durable. nil means that all of them are, now or from an
// earlier append, and that one result stands for each record, in order. After an
// error nothing is known and nothing is promised. An error that has a method
// Overloaded() bool returning true is counted as overload.
type Appender interface {
	Append(ctx context.Context, window time.Duration, records []event.Record) ([]event.Appended, error)
}

// Account is a configured instance of a provider.
type Account struct {
	// Name is the last part of the path: /callbacks/<name>, with or without one slash
	// behind it.
	Name string
	// Namespace is shared by accounts that sell the same orders; "" means Name.
	Namespace string
	// ProviderName is the protocol's name: it is part of every event ID.
	ProviderName string
	Provider     provider.Provider
	// Window is how long a redelivery is recognised.
	Window time.Duration
}

// Deps are what a Gateway is given.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now tells the time of arrival; nil means time.Now.
	Now func() time.Time
	// Ready returns nil when a callback can be kept now; nil means always. An error
	// that has a method PublicReason() string chooses the words of /readyz.
	Ready func(ctx context.Context) error
	// Clock tells the event store's time, which the process's clock is compared with; nil
	// compares it with nothing.
	Clock func(ctx context.Context) (time.Time, error)
	// Keeps names what keeps callbacks now, for /readyz; nil says nothing.
	Keeps func() string
}

// Gateway is the public door as an http.Handler.
type Gateway struct {
	options Options
	// accounts are replaced as a whole by Replace.
	accounts atomic.Pointer[map[string]*account]
	appender Appender
	log      *slog.Logger
	now      func() time.Time
	metrics  *metrics
	clock    *clock
	health   *health
	strays   *quietLog
	unknown  gin.HandlerFunc // answers for accounts that there are not
	engine   *gin.Engine
	// deadlines are those of appends.
	deadlines *deadlines

	inFlight atomic.Int64
	bodies   *bodyBudget
	listener atomic.Pointer[listener] // nil before Serve
}

// names are safe in a path, a metric label, an ordering key and a log line.
var names = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// New builds the door. It starts nothing; every problem with the options and the
// accounts is reported at once.
func New(o Options, accounts []Account, a Appender, d Deps) (*Gateway, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if a == nil || d.Logger == nil || d.Registerer == nil {
		return nil, errors.New("gateway: an appender, a logger and a registerer are needed")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if o.BodyMemory == 0 {
		o.BodyMemory = max(defaultBodyMemory, o.MaxBody)
	}
	g := &Gateway{
		options: o, appender: a, log: d.Logger, now: d.Now,
		clock:  newClock(d),
		strays: newQuietLog(d.Logger),

		deadlines: newDeadlines(o.AppendTimeout),
		bodies:    newBodyBudget(o.BodyMemory),
	}
	g.health = newHealth(d, g.clock)
	var err error
	if g.metrics, err = newMetrics(d.Registerer, g); err != nil {
		return nil, err
	}
	if err := g.Replace(accounts); err != nil {
		return nil, err
	}
	g.engine = g.routes()
	return g, nil
}

// Replace takes other accounts, and with them other keys, in place of those before.
// Callbacks under way end with what they began with. Every problem is reported at once,
// and then nothing is replaced. It is safe while the door serves.
func (g *Gateway) Replace(accounts []Account) error {
	next := make(map[string]*account, len(accounts))
	var errs []error
	for _, acc := range accounts {
		known, err := newAccount(g.options, acc, g.log, g.metrics)
		if err == nil && next[acc.Name] != nil {
			err = fmt.Errorf("gateway: account %s: defined twice", acc.Name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		next[acc.Name] = known
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	g.accounts.Store(&next)
	return nil
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// While draining, the next request goes to another door.
	if g.health.closing.Load() || ambiguousEnd(r) {
		w.Header()["Connection"] = closing
	}
	if r.ContentLength == 0 {
		answering(r.Context(), true)
	}
	g.engine.ServeHTTP(w, r)
}

// Drain makes /readyz say that the door is closing, and every reply end its connection,
// so that a balancer sends nothing new.
func (g *Gateway) Drain() { g.health.closing.Store(true) }

// routes builds the engine. Nothing is redirected: a provider's POST would become a
// GET without its body. People type the path into providers' consoles, so an account
// is also found with one slash behind its name.
func (g *Gateway) routes() *gin.Engine {
	gin.SetMode(gin.ReleaseMode) // gin's only switch for its own printing is global
	e := gin.New()
	e.RedirectTrailingSlash = false
	e.RedirectFixedPath = false
	e.HandleMethodNotAllowed = true
	e.ForwardedByClientIP = false
	e.RemoteIPHeaders = nil
	// Matched before %2f is decoded: rules of a proxy in front see no slash in it either.
	e.UseEscapedPath = true

	e.POST("/callbacks/:account", g.callback)
	e.POST("/callbacks/:account/", g.callback)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Handle(method, "/healthz", g.health.live)
		e.Handle(method, "/readyz", g.health.ready)
	}
	g.unknown = g.stray(http.StatusNotFound, "unknown_account")
	e.NoRoute(g.stray(http.StatusNotFound, "unknown_path"))
	e.NoMethod(g.stray(http.StatusMethodNotAllowed, "method"))
	return e
}

// account is a configured account with everything about it that does not change
// from callback to callback.
type account struct {
	Account
	answers answers
	counts  counts
	quiet   *quietLog
}

func newAccount(o Options, a Account, log *slog.Logger, m *metrics) (*account, error) {
	if a.Namespace == "" {
		a.Namespace = a.Name
	}
	var problem string
	switch {
	case !names.MatchString(a.Name):
		problem = "the name must be 1-64 of a-z, 0-9, '.', '_' and '-', and begin with a letter or digit"
	case !names.MatchString(a.Namespace):
		problem = "the namespace must be 1-64 of a-z, 0-9, '.', '_' and '-', and begin with a letter or digit"
	case a.ProviderName == "" || a.Provider == nil:
		problem = "it has no provider"
	case a.Window <= 0:
		problem = "its dedup window must be longer than nothing"
	}
	if problem != "" {
		return nil, fmt.Errorf("gateway: account %q: %s", a.Name, problem)
	}
	words, err := newAnswers(a.Provider, o.RetryAfter)
	if err != nil {
		return nil, fmt.Errorf("gateway: account %s: %w", a.Name, err)
	}
	return &account{
		Account: a, answers: words, counts: m.of(a.Name, a.ProviderName),
		quiet: newQuietLog(log.With("account", a.Name, "provider", a.ProviderName)),
	}, nil
}
