// Package admin is the operator's door: metrics, profiles and a JSON API that
// tells what is stuck and why, and lets dead letters be replayed or dropped. It
// listens apart from the public door and is not reachable from other machines
// without a token.
//
// It shows no callback body, no signature and nothing about a customer. What it
// reads from is given to it; a part that a process does not have, or that does
// not answer, is named as such beside the parts that do.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-playground/validator/v10"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/streams"
)

// Deps are what an Admin is given. Sources that a process does not have are nil.
type Deps struct {
	Logger   *slog.Logger
	Gatherer prometheus.Gatherer
	// Registerer takes the door's own metrics.
	Registerer prometheus.Registerer
	// Now defaults to time.Now.
	Now func() time.Time
	// Version is what runs.
	Version  string
	Accounts []Account
	// Ready tells whether this process's public door can keep a callback.
	Ready func(ctx context.Context) error
	// Durability tells how well Redis keeps what it confirms.
	Durability func(ctx context.Context) (streams.Durability, error)
	Stats      Stats
	Ledger     Ledger
	// Journal tells what the journal of this process holds.
	Journal func() JournalStatus
	// Paused tells what this process's groups wait for, by group; none where they run.
	Paused      func() map[string][]string
	DeadLetters DeadLetters
	Orders      Orders
	Points      Points
}

// Admin is the operator's door as an http.Handler.
type Admin struct {
	options Options
	deps    Deps
	guard   *guard
	started time.Time
	engine  *gin.Engine
	// validate checks parameters; it remembers nothing but types.
	validate *validator.Validate
}

// New builds the door and reads its token. It starts nothing.
func New(o Options, d Deps) (*Admin, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if d.Logger == nil || d.Gatherer == nil || d.Registerer == nil {
		return nil, errors.New("admin: a logger, a gatherer and a registerer are needed")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	g, err := newGuard(o, d)
	if err != nil {
		return nil, err
	}
	a := &Admin{
		options: o, deps: d, guard: g, started: d.Now(),
		validate: validator.New(validator.WithRequiredStructEnabled()),
	}
	a.engine = a.routes()
	return a, nil
}

// ReadToken reads the token again. Where it cannot be read, the one before stays. It is
// safe while the door serves.
func (a *Admin) ReadToken() error { return a.guard.read(a.options) }

// ServeHTTP implements http.Handler.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A proxy may have seen such a request end elsewhere, so nothing after it on the
	// connection is read (RFC 9112, section 6.1). HTTP/1.0 counts because net/http
	// removes its Transfer-Encoding.
	if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
		w.Header().Set("Connection", "close")
	}
	a.engine.ServeHTTP(w, r)
}

func (a *Admin) routes() *gin.Engine {
	gin.SetMode(gin.ReleaseMode) // gin's only switch for its own printing is global
	e := gin.New()
	e.RedirectTrailingSlash = false
	e.RedirectFixedPath = false
	e.HandleMethodNotAllowed = true
	e.ForwardedByClientIP = false
	e.RemoteIPHeaders = nil
	// An order reference may hold a slash. It is matched escaped and read by
	// pathParam, because gin reads "+" in a path as a space.
	e.UseEscapedPath = true
	e.UnescapePathValues = false

	e.Use(a.headers)
	e.Match([]string{http.MethodGet, http.MethodHead}, "/healthz", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	e.Use(a.guard.check)
	e.NoRoute(func(c *gin.Context) { fail(c, http.StatusNotFound, "not_found", "nothing is here; see /") })
	e.NoMethod(func(c *gin.Context) {
		fail(c, http.StatusMethodNotAllowed, "method_not_allowed", "that cannot be done to what is here; see /")
	})

	e.GET("/", a.index)
	e.GET("/metrics", a.metrics())
	a.profiles(e.Group("/debug/pprof"))
	v1 := e.Group("/api/v1", a.bounded)
	v1.GET("/status", a.status)
	v1.GET("/orders", a.listOrders)
	v1.GET("/orders/:namespace/:ref", a.showOrder)
	v1.GET("/deadletters/:group", a.listDeadLetters)
	v1.GET("/deadletters/:group/:id", a.showDeadLetter)
	v1.POST("/deadletters/:group/replay", a.replayDeadLetters)
	v1.POST("/deadletters/:group/drop", a.dropDeadLetters)
	v1.POST("/ledger/:group/acknowledge", a.acknowledge)
	return e
}

// index says what there is.
func (a *Admin) index(c *gin.Context) {
	respond(c, http.StatusOK, map[string]string{
		"status":       "/api/v1/status",
		"orders":       "/api/v1/orders{?ref,namespace,limit}",
		"order":        "/api/v1/orders/{namespace}/{order_ref}",
		"dead_letters": "/api/v1/deadletters/{group}{?account,order,type,reason,since,until,limit,cursor}",
		"dead_letter":  "/api/v1/deadletters/{group}/{id}",
		"replay":       "POST /api/v1/deadletters/{group}/replay {\"ids\": [...]}",
		"drop":         "POST /api/v1/deadletters/{group}/drop {\"ids\": [...], \"because\": \"...\"}",
		"acknowledge":  "POST /api/v1/ledger/{group}/acknowledge {\"because\": \"...\"}",
		"metrics":      "/metrics",
		"profiles":     "/debug/pprof/",
	})
}

// Listen opens the address.
func Listen(ctx context.Context, o Options) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("admin: listen: %w", err)
	}
	return l, nil
}

// Limits of the door. Writing has none for the server as a whole: a profile takes
// as long as it is asked to, everything else is bounded in bounded.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 32 << 10
	drainTimeout  = 2 * time.Second
	sourceTimeout = 10 * time.Second
)

// Serve answers on l until ctx ends, waits a moment for what is under way and
// closes l.
func (a *Admin) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           a,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(a.deps.Logger.Handler(), slog.LevelWarn),
		// net/http's own answer to OPTIONS * would pass by ServeHTTP.
		DisableGeneralOptionsHandler: true,
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("admin: serve: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	var err error
	if srv.Shutdown(grace) != nil { // a profile under way is nothing to wait for
		err = srv.Close()
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("admin: serve: %w", served))
	}
	return err
}
