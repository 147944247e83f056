package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/handlers/effects"
)

// accountsCmd looks after what Redis and the database know of accounts.
type accountsCmd struct {
	Show accountsShowCmd `cmd:"" help:"Show the accounts that are known, and how they are configured."`
	Move accountsMoveCmd `cmd:"" help:"Let an account go on with the provider and namespace that it is configured with now. Its orders so far stay in the namespace before."`
}

type accountsShowCmd struct{}

// Run implements the command.
func (accountsShowCmd) Run(ctx context.Context, g *globals) error {
	return withAccounts(ctx, g, func(k *knownAccounts) error {
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ACCOUNT\tPROVIDER\tNAMESPACE\tCONFIGURED")
		for _, name := range slices.Sorted(maps.Keys(k.known)) {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, k.known[name].Provider, k.known[name].Namespace, k.configuredAs(name))
		}
		return w.Flush()
	})
}

// accountsMoveCmd is for an account that is to go on elsewhere on purpose.
type accountsMoveCmd struct {
	Account string `arg:"" help:"The account."`
	Yes     bool   `help:"Do not ask."`
}

// Run implements the command.
func (m accountsMoveCmd) Run(ctx context.Context, g *globals) error {
	return withAccounts(ctx, g, func(k *knownAccounts) error {
		now, ok := k.configured[m.Account]
		was, known := k.known[m.Account]
		switch {
		case !ok:
			return badConfig(fmt.Errorf("accounts.%s: is not configured", m.Account))
		case !known:
			return badConfig(fmt.Errorf("accounts.%s: is not known yet, and is recorded when a process starts with it", m.Account))
		case k.configuredAs(m.Account) == "the same":
			_, err := fmt.Fprintln(os.Stdout, "the account is known as it is configured already")
			return err
		}
		if !m.Yes {
			question := fmt.Sprintf("Account %s is known with provider %s and namespace %s; it is configured with %s and %s. Shall it go on like that? "+
				"Refunds and disputes of orders it has sold so far will begin orders of their own, and callbacks sent again count as new ones.",
				m.Account, was.Provider, was.Namespace, now.Provider, now.Namespace)
			if err := confirm(ctx, question); err != nil {
				return err
			}
		}
		to := gateway.Account{Name: m.Account, ProviderName: now.Provider, Namespace: now.Namespace}
		if err := app.MoveAccount(ctx, k.c, k.store, to); err != nil {
			return startError(err)
		}
		_, err := fmt.Fprintln(os.Stdout, "the account goes on as it is configured; start every process with the same configuration")
		return err
	})
}

// knownAccounts is what is recorded, beside what is configured.
type knownAccounts struct {
	c          *configs.Config
	store      *effects.Store // nil without a database
	known      map[string]effects.Account
	configured map[string]effects.Account
}

func (k *knownAccounts) configuredAs(name string) string {
	switch now, ok := k.configured[name]; {
	case !ok:
		return "no longer"
	case now == k.known[name]:
		return "the same"
	default:
		return now.Provider + " " + now.Namespace
	}
}

// withAccounts asks Redis, and the database where one is configured.
func withAccounts(ctx context.Context, g *globals, do func(*knownAccounts) error) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	accounts, err := app.Accounts(c, time.Now)
	if err != nil {
		return badConfig(err)
	}
	run := func(c *configs.Config, store *effects.Store) error {
		if store != nil {
			if err := store.CheckMigrated(ctx); err != nil {
				return err
			}
		}
		k := &knownAccounts{c: c, store: store, configured: map[string]effects.Account{}}
		for _, a := range accounts {
			k.configured[a.Name] = app.Recorded(a)
		}
		if k.known, err = app.KnownAccounts(ctx, c, store); err != nil {
			return startError(err)
		}
		return do(k)
	}
	if !c.DatabaseNamed() {
		return run(c, nil)
	}
	return withStore(ctx, g, run)
}
