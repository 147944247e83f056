package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
)

// greet tells where the process listens and, with the embedded default, what to
// paste next.
func greet(out io.Writer, a *app.App, c *configs.Config, g *globals) {
	var b strings.Builder
	fmt.Fprintf(&b, "paybell %s is ready\n", version)
	if addr := a.Addr(); addr != nil {
		fmt.Fprintf(&b, "  callbacks  http://%s/callbacks/<account>\n", addr)
	}
	fmt.Fprintf(&b, "  admin      http://%s\n", a.AdminAddr())
	if a.Embedded() {
		fmt.Fprintf(&b, "  redis      %s, the embedded engine: redis-cli can look at it\n", c.Embedded.Address)
		fmt.Fprintf(&b, "\nIn another terminal, here:\n  %s send alipay-sandbox --order A1001 --amount 88.00%s\n  %s status%s\n",
			self(), sameConfig(g), self(), sameConfig(g))
	}
	fmt.Fprint(out, b.String())
}

// self is how this program was called, also by go run.
func self() string {
	if strings.Contains(filepath.ToSlash(os.Args[0]), "/go-build") {
		return "go run ./cmd/paybell"
	}
	return os.Args[0]
}

// sameConfig are the flags with which another command finds this configuration.
func sameConfig(g *globals) string {
	var b strings.Builder
	if g.ConfigFile != "" {
		fmt.Fprintf(&b, " --config %q", g.ConfigFile)
	}
	if g.DataDir != "" {
		fmt.Fprintf(&b, " --data-dir %q", g.DataDir)
	}
	for _, s := range g.Set {
		fmt.Fprintf(&b, " --set %q", s)
	}
	return b.String()
}
