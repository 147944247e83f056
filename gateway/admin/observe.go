package admin

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof" // its registration with the default mux has no effect: nothing serves that mux
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// profileTime is the longest that a profile or trace may take to be written.
const profileTime = 10 * time.Minute

// metrics serves what every part of the process has counted.
func (a *Admin) metrics() gin.HandlerFunc {
	h := promhttp.HandlerFor(a.deps.Gatherer, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(a.deps.Logger.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             sourceTimeout,
		EnableOpenMetrics:   true,
	})
	return func(c *gin.Context) {
		deadline(c, 2*sourceTimeout)
		h.ServeHTTP(c.Writer, c.Request)
	}
}

// profiles serves pprof, but for the command line: flags are configuration.
func (a *Admin) profiles(g *gin.RouterGroup) {
	g.Use(func(c *gin.Context) { deadline(c, profileTime) })
	g.GET("/", gin.WrapF(pprof.Index))
	g.GET("/profile", gin.WrapF(pprof.Profile))
	g.GET("/trace", gin.WrapF(pprof.Trace))
	g.GET("/symbol", gin.WrapF(pprof.Symbol))
	g.POST("/symbol", gin.WrapF(pprof.Symbol))
	for _, name := range []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"} {
		g.GET("/"+name, gin.WrapH(pprof.Handler(name)))
	}
}

// bounded gives a request's sources and its answer a time to end in.
func (a *Admin) bounded(c *gin.Context) {
	deadline(c, 2*sourceTimeout)
	ctx, cancel := context.WithTimeout(c.Request.Context(), sourceTimeout)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

// deadline bounds the writing of an answer. A test's recorder has none to set.
func deadline(c *gin.Context, d time.Duration) {
	_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Now().Add(d)) // without one the answer is only slower to fail
}
