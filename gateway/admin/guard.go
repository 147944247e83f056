package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// guard decides who may pass.
type guard struct {
	// token is the digest of the token: digests compare in constant time whatever
	// the length of what is presented. It is nil when there is none.
	token    atomic.Pointer[[sha256.Size]byte]
	hosts    map[string]bool
	log      *slog.Logger
	quiet    *rate.Limiter
	now      func() time.Time
	refusals *prometheus.CounterVec
}

func newGuard(o Options, d Deps) (*guard, error) {
	g := &guard{
		hosts: map[string]bool{"localhost": true},
		log:   d.Logger, now: d.Now,
		quiet: rate.NewLimiter(rate.Every(time.Second), 10),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paybell_admin_refusals_total",
			Help: "Requests to the operator's door that were refused, by reason: token, host, cross_site.",
		}, []string{"reason"}),
	}
	for _, name := range o.Hosts {
		g.hosts[strings.ToLower(name)] = true
	}
	for _, reason := range []string{"token", "host", "cross_site"} {
		g.refusals.WithLabelValues(reason) // there from the start, for alerts on its growth
	}
	if err := d.Registerer.Register(g.refusals); err != nil {
		return nil, fmt.Errorf("admin: register metrics: %w", err)
	}
	if err := g.read(o); err != nil {
		return nil, err
	}
	return g, nil
}

// read takes the token of o from now on. Where it cannot be read, the one before stays.
func (g *guard) read(o Options) error {
	token, err := o.ReadToken()
	if err != nil {
		return fmt.Errorf("admin: token: %w", err)
	}
	if o.Token.IsZero() {
		return nil
	}
	sum := sha256.Sum256([]byte(token.Reveal()))
	g.token.Store(&sum)
	return nil
}

// check lets a request pass or ends it.
func (g *guard) check(c *gin.Context) {
	r := c.Request
	switch {
	case g.token.Load() != nil && !g.knows(r):
		c.Header("WWW-Authenticate", `Bearer realm="paybell"`)
		g.refuse(c, http.StatusUnauthorized, "token", "a token is required: Authorization: Bearer <token>")
	case g.token.Load() == nil && !g.named(r.Host):
		g.refuse(c, http.StatusForbidden, "host", "this door does not answer to that name; see admin.hosts")
	case crossSite(r):
		g.refuse(c, http.StatusForbidden, "cross_site", "this door is not for other sites' pages")
	}
}

func (g *guard) refuse(c *gin.Context, status int, reason, text string) {
	g.refusals.WithLabelValues(reason).Inc()
	if g.quiet.AllowN(g.now(), 1) {
		g.log.LogAttrs(c.Request.Context(), slog.LevelWarn, "operator request refused",
			slog.String("reason", reason), slog.String("remote", c.Request.RemoteAddr))
	}
	fail(c, status, "refused", text)
	c.Abort()
}

// knows compares the presented token in constant time.
func (g *guard) knows(r *http.Request) bool {
	given := r.Header["Authorization"]
	if len(given) != 1 {
		return false
	}
	scheme, token, _ := strings.Cut(given[0], " ")
	sum := sha256.Sum256([]byte(token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], g.token.Load()[:]) == 1
}

// named reports whether a browser may have meant this door: rebinding a name to
// this address needs a name.
func (g *guard) named(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return g.hosts[strings.ToLower(strings.TrimSuffix(host, "."))]
}

// crossSite reports whether a page of another site made a browser ask. It could
// not read the answer, but a profile it starts costs us all the same.
func crossSite(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}

// headers says what browsers may do with the answers: show them, and no more.
func (a *Admin) headers(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
}
