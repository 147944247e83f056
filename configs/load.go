package configs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/paybell/paybell/gateway/provider/catalog"
)

// EnvPrefix begins the name of every environment variable that sets a key. The
// rest is the key's path in capitals with "__" between levels:
// PAYBELL_GATEWAY__ADDRESS sets gateway.address. A name without "__" is a key only
// if it is one of the three top-level values: others, such as PAYBELL_STRIPE_SECRET,
// are the operator's own, for secrets.
const EnvPrefix = "PAYBELL_"

var topLevelEnv = []string{"data_dir", "instance", "memory_limit"}

// Input is what a configuration is loaded from; later ones win.
type Input struct {
	// File is the path of a YAML file, or "" for none.
	File string
	// Environ is in the form of os.Environ.
	Environ []string
	// Set are "key=value" assignments from flags.
	Set []string
}

// Load reads, decodes and validates a configuration. The error lists every
// problem found, each with its path, joined by errors.Join. Secrets are not read.
func Load(in Input) (*Config, error) {
	k := koanf.New(".")
	if in.File != "" {
		b, err := os.ReadFile(in.File)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		if err := k.Load(rawbytes.Provider(b), yaml.Parser()); err != nil {
			return nil, fmt.Errorf("%s: not YAML: %w", in.File, err)
		}
	}
	var problems []error
	overlay := map[string]any{}
	for _, kv := range in.Environ {
		name, value, _ := strings.Cut(kv, "=")
		rest, ok := strings.CutPrefix(name, EnvPrefix)
		key := strings.ToLower(strings.ReplaceAll(rest, "__", "."))
		if !ok || !strings.Contains(key, ".") && !slices.Contains(topLevelEnv, key) {
			continue
		}
		problems = append(problems, assign(overlay, key, value, name))
	}
	for _, kv := range in.Set {
		key, value, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			problems = append(problems, fmt.Errorf("--set %q: write key=value", kv))
			continue
		}
		problems = append(problems, assign(overlay, key, value, "--set "+key))
	}
	if err := k.Load(confmap.Provider(overlay, "."), nil); err != nil {
		return nil, fmt.Errorf("merge configuration: %w", err)
	}
	c := Default()
	problems = append(problems, decode(k.Raw(), &c))
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	c.complete()
	return &c, c.Validate()
}

// assign reads a value as a YAML scalar or flow, so that numbers and lists can be
// given where everything is text. No value is refused: it is what a variable that
// was meant to be set leaves, and as null it would undo what the file says.
func assign(into map[string]any, key, value, from string) error {
	var v any
	if err := yamlv3.Unmarshal([]byte(value), &v); err != nil {
		return fmt.Errorf("%s: not a YAML value", from)
	}
	if v == nil {
		return fmt.Errorf(`%s: has no value: leave it unset to keep what the file or the default says; where an empty text is meant, write '""'`, from)
	}
	into[key] = v
	return nil
}

// decode fills c from the raw tree, account by account, because only the catalog
// knows the type of an account's options.
func decode(raw map[string]any, c *Config) error {
	rest := make(map[string]any, len(raw))
	for k, v := range raw {
		if k != "accounts" {
			rest[k] = v
		}
	}
	problems := []error{strict("", rest, c)}
	accounts, isMap := raw["accounts"].(map[string]any)
	if raw["accounts"] != nil && !isMap {
		return errors.Join(append(problems, errors.New("accounts: must be a map of account names"))...)
	}
	c.Accounts = make(map[string]Account, len(accounts))
	for _, name := range sortedKeys(accounts) {
		a, err := decodeAccount("accounts."+name, accounts[name])
		problems = append(problems, err)
		c.Accounts[name] = a
	}
	return errors.Join(problems...)
}

func decodeAccount(path string, raw any) (Account, error) {
	m, ok := raw.(map[string]any)
	if !ok {
		return Account{}, fmt.Errorf("%s: must be a map", path)
	}
	var head struct {
		Provider  string `yaml:"provider"`
		Namespace string `yaml:"namespace"`
		// These are read once it is known of which provider they are.
		DedupWindow any `yaml:"dedup_window"`
		Options     any `yaml:"options"`
	}
	if err := strict(path, m, &head); err != nil {
		return Account{}, err
	}
	entry, ok := catalog.Lookup(head.Provider)
	if !ok {
		return Account{}, fmt.Errorf("%s.provider: %q is not one of %s", path, head.Provider, strings.Join(catalog.Names(), ", "))
	}
	a := Account{Provider: head.Provider, Namespace: head.Namespace, Options: entry.NewOptions()}
	var problems []error
	if window, given := m["dedup_window"]; given {
		problems = append(problems, strict(path, map[string]any{"dedup_window": window}, &a))
	}
	if options := m["options"]; options != nil {
		problems = append(problems, strict(path+".options", options, a.Options))
	}
	return a, errors.Join(problems...)
}

// flatten lists the single problems of a joined error.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range many.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	return []error{err}
}

// Problems lists every problem of an error that Load returned.
func Problems(err error) []string {
	var out []string
	for _, e := range flatten(err) {
		out = append(out, e.Error())
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
