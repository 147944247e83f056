package configs

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
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
// if it is one of the two top-level values: others, such as PAYBELL_STRIPE_SECRET,
// are the operator's own, for secrets.
const EnvPrefix = "PAYBELL_"

var topLevelEnv = []string{"data_dir", "instance"}

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
// given where everything is text.
func assign(into map[string]any, key, value, from string) error {
	var v any
	if err := yamlv3.Unmarshal([]byte(value), &v); err != nil {
		return fmt.Errorf("%s: not a YAML value", from)
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
		Provider    string `yaml:"provider"`
		Namespace   string `yaml:"namespace"`
		DedupWindow any    `yaml:"dedup_window"`
		Options     any    `yaml:"options"`
	}
	if err := strict(path, m, &head); err != nil {
		return Account{}, err
	}
	entry, ok := catalog.Lookup(head.Provider)
	if !ok {
		return Account{}, fmt.Errorf("%s.provider: %q is not one of %s", path, head.Provider, strings.Join(catalog.Names(), ", "))
	}
	a := Account{Provider: head.Provider, Namespace: head.Namespace, Options: entry.NewOptions()}
	problems := []error{strict(path, map[string]any{"dedup_window": head.DedupWindow}, &a)}
	if head.Options != nil {
		problems = append(problems, strict(path+".options", head.Options, a.Options))
	}
	return a, errors.Join(problems...)
}

// strict decodes raw into out and refuses keys that out does not have.
func strict(path string, raw any, out any) error {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		TagName: "yaml",
		Result:  out,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			refuseBareDuration,
			refuseBareDecimal,
			mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.TextUnmarshallerHookFunc(),
		),
		MatchName: func(key, field string) bool { return key == field },
	})
	if err != nil {
		return fmt.Errorf("decode configuration: %w", err)
	}
	// The decoder tells of unknown keys only where everything else is right.
	problems := unknown(path, raw, reflect.TypeOf(out))
	for _, p := range decodeErrors(d.Decode(raw)) {
		problems = append(problems, fmt.Errorf("%s: %w", join(path, p.Name()), p.Unwrap()))
	}
	return errors.Join(problems...)
}

// unknown lists the keys of raw that a type has no field for.
func unknown(path string, raw any, t reflect.Type) []error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var problems []error
	switch v := raw.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			at := join(path, key)
			switch {
			case t.Kind() == reflect.Map:
				problems = append(problems, unknown(at, v[key], t.Elem())...)
			case t.Kind() != reflect.Struct:
			default:
				f, ok := fieldOf(t, key)
				if !ok {
					problems = append(problems, fmt.Errorf("%s: unknown key", at))
					continue
				}
				problems = append(problems, unknown(at, v[key], f.Type)...)
			}
		}
	case []any:
		if t.Kind() == reflect.Slice {
			for i, e := range v {
				problems = append(problems, unknown(fmt.Sprintf("%s[%d]", path, i), e, t.Elem())...)
			}
		}
	}
	return problems
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

var durationType = reflect.TypeFor[interface{ Nanoseconds() int64 }]()

// refuseBareDuration keeps "timeout: 5" from meaning five nanoseconds.
func refuseBareDuration(from, to reflect.Type, v any) (any, error) {
	if to.Implements(durationType) && to.Kind() == reflect.Int64 && from.Kind() == reflect.Int && reflect.ValueOf(v).Int() != 0 {
		return nil, fmt.Errorf("write a duration with its unit, such as %vs", v)
	}
	return v, nil
}

// refuseBareDecimal keeps "per: 1.10" from having been a float before it is text.
func refuseBareDecimal(from, to reflect.Type, v any) (any, error) {
	if to.Kind() == reflect.String && from.Kind() == reflect.Float64 {
		return nil, errors.New("put the number in quotes: without them it is not exact")
	}
	return v, nil
}

// decodeErrors lists the innermost problems of the decoder: those that name a key.
func decodeErrors(err error) []*mapstructure.DecodeError {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*mapstructure.DecodeError
		for _, e := range many.Unwrap() {
			out = append(out, decodeErrors(e)...)
		}
		return out
	}
	inner := decodeErrors(errors.Unwrap(err))
	if de, ok := err.(*mapstructure.DecodeError); ok && len(inner) == 0 { //nolint:errorlint // as above
		return []*mapstructure.DecodeError{de}
	}
	return inner
}

func join(path, key string) string {
	switch {
	case path == "":
		return key
	case key == "":
		return path
	default:
		return path + "." + key
	}
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
