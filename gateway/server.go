package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// writeSlack is how long a reply of a few bytes may take to leave.
const writeSlack = 5 * time.Second

// NewServer puts a handler behind the limits: what is slow to arrive is cut off.
// The caller serves on a listener made by Listen and ends with Shutdown, which
// waits for the callbacks under way.
func NewServer(o Options, h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: o.HeaderTimeout,
		ReadTimeout:       o.ReadTimeout,
		// The write deadline is set when the headers have arrived, so it has to
		// outlast everything that happens before the reply.
		WriteTimeout:   o.ReadTimeout + o.AppendTimeout + writeSlack,
		IdleTimeout:    o.IdleTimeout,
		MaxHeaderBytes: o.MaxHeader,
		ConnState:      track,
		ConnContext:    withConn,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		// net/http's own answer to OPTIONS * would keep the connection of a request whose
		// end is ambiguous.
		DisableGeneralOptionsHandler: true,
	}
}

// ambiguousEnd reports whether a proxy may have seen the request end elsewhere: with
// Content-Length beside Transfer-Encoding, what follows may be a second request that
// the proxy took for the body. Then the connection ends with the reply (RFC 9112,
// section 6.1). net/http removes one of the two headers, and both from HTTP/1.0, so
// every request that may have had both counts.
func ambiguousEnd(r *http.Request) bool {
	return len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1)
}

// Listen opens the address and lets at most Options.MaxConnections in at once. At the
// limit those that never sent anything make room first, then those that send too slowly,
// then idle ones.
func Listen(ctx context.Context, o Options) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("gateway: listen: %w", err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("gateway: listen: a %T", l), l.Close())
	}
	return newListener(tcp, o.MaxConnections), nil
}

// Serve receives callbacks on l until ctx ends. Then it says so on /readyz and goes on
// for Options.DrainDelay, ending each connection with its next reply, so that whoever
// looks at /readyz has turned to another gateway when it takes no more connections. It
// waits for the callbacks under way, at most Options.DrainTimeout; what has not ended by
// then is cut off and counts as an error. It returns when nothing it started is left, and closes l.
func (g *Gateway) Serve(ctx context.Context, l net.Listener) error {
	if counted, ok := l.(*listener); ok {
		g.listener.Store(counted)
	}
	srv := NewServer(g.options, g, g.log)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	comparing, cancelComparing := context.WithCancel(ctx)
	var compared sync.WaitGroup
	compared.Go(func() { g.clock.run(comparing) })
	defer compared.Wait()
	defer cancelComparing()
	select {
	case err := <-ended:
		return fmt.Errorf("gateway: serve: %w", err)
	case <-ctx.Done():
	}
	g.Drain()
	select {
	case err := <-ended:
		return fmt.Errorf("gateway: serve: %w", err)
	case <-time.After(g.options.DrainDelay):
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.options.DrainTimeout)
	defer cancel()
	err := srv.Shutdown(grace)
	if err != nil {
		err = errors.Join(fmt.Errorf("gateway: callbacks still under way after %s: %w", g.options.DrainTimeout, err), srv.Close())
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("gateway: serve: %w", served))
	}
	return err
}
