package app

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/catalog"
)

// SandboxNamespace is shared by the generated sandbox accounts.
const SandboxNamespace = "sandbox"

// ErrNoSandbox is returned where the keys of the sandbox accounts would have to be
// made by a command that only uses them.
var ErrNoSandbox = errors.New("no accounts are configured, and there are no sandbox keys: run this where paybell serve runs, or name its --data-dir or --config")

// AddSandbox gives a configuration without accounts one sandbox account for every
// provider, named "<provider>-sandbox". Keys are kept in the data directory, so that
// another process signs with the same ones; mayMake says whether they may be made now.
func AddSandbox(c *configs.Config, mayMake bool) error {
	if len(c.Accounts) > 0 || !c.EmbeddedRedis() {
		return nil
	}
	if _, err := os.Stat(c.SandboxDir()); !mayMake && err != nil {
		return ErrNoSandbox
	}
	accounts := map[string]configs.Account{}
	for _, name := range catalog.Names() {
		entry, _ := catalog.Lookup(name) // Names lists what Lookup finds
		if entry.Sandbox == nil {
			continue
		}
		options, err := entry.Sandbox(filepath.Join(c.SandboxDir(), name))
		if err != nil {
			return fmt.Errorf("make the sandbox keys of %s: %w", name, err)
		}
		accounts[name+"-sandbox"] = configs.Account{
			Provider: name, Namespace: SandboxNamespace, Options: options,
			DedupWindow: configs.DefaultDedupWindow(entry.Redelivery),
		}
	}
	c.Accounts = accounts
	return nil
}

// Accounts builds every configured account: it reads the secrets and returns all
// problems at once, each with its path.
func Accounts(c *configs.Config, now func() time.Time) ([]gateway.Account, error) {
	var accounts []gateway.Account
	var problems []error
	for _, name := range accountNames(c) {
		a := c.Accounts[name]
		entry, ok := catalog.Lookup(a.Provider)
		if !ok {
			problems = append(problems, fmt.Errorf("accounts.%s.provider: unknown %q", name, a.Provider))
			continue
		}
		p, err := entry.New(a.Options, now)
		if err != nil {
			for _, text := range configs.Problems(err) {
				problems = append(problems, fmt.Errorf("accounts.%s.options: %s", name, strings.ReplaceAll(text, "\n", "; ")))
			}
			continue
		}
		accounts = append(accounts, gateway.Account{
			Name: name, Namespace: a.Namespace, ProviderName: a.Provider, Provider: p, Window: a.DedupWindow,
		})
	}
	return accounts, errors.Join(append(problems, sharedKeys(accounts)...)...)
}

// Signer returns what signs callbacks for an account as its provider would.
func Signer(c *configs.Config, account string, now func() time.Time) (provider.Signer, error) {
	a, ok := c.Accounts[account]
	if !ok {
		return nil, fmt.Errorf("no account %q; there are: %v", account, accountNames(c))
	}
	entry, ok := catalog.Lookup(a.Provider)
	if !ok {
		return nil, fmt.Errorf("accounts.%s.provider: unknown %q", account, a.Provider)
	}
	return entry.Signer(a.Options, now)
}

// sharedKeys finds accounts that would believe each other's callbacks: the same
// key and no signed merchant identity to tell them apart (docs/event.md, "Identity").
func sharedKeys(accounts []gateway.Account) []error {
	type claim struct{ account, merchant string }
	claims := map[string][]claim{}
	var problems []error
	for _, a := range accounts {
		id := a.Provider.Identity()
		for _, key := range id.Keys {
			k := a.ProviderName + hex.EncodeToString(key[:])
			for _, other := range claims[k] {
				if other.merchant == id.Merchant || other.merchant == "" || id.Merchant == "" {
					problems = append(problems, fmt.Errorf(
						"accounts.%s.options: shares a verification key with account %s and nothing signed tells them apart; one would believe the other's callbacks",
						a.Name, other.account))
				}
			}
			claims[k] = append(claims[k], claim{a.Name, id.Merchant})
		}
	}
	return problems
}

func accountNames(c *configs.Config) []string {
	names := make([]string, 0, len(c.Accounts))
	for name := range c.Accounts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
