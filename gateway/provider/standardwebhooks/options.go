package standardwebhooks

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/paybell/paybell/configs/secret"
)

// Options configure one sender.
type Options struct {
	// Secrets are the shared secrets of v1 signatures, newest first: base64 of 24 to
	// 64 bytes, with or without "whsec_" in front.
	Secrets secret.Slot `yaml:"secrets"`
	// PublicKeys are the sender's ed25519 keys of v1a signatures, newest first: base64
	// of 32 bytes, with or without "whpk_" in front, or "file:" and a path. Keys are
	// never taken from a request.
	PublicKeys []string `yaml:"public_keys"`
	// SigningKey is the private half ("whsk_…", base64 of an ed25519 seed) of a
	// sandbox, with which the send command plays the sender.
	SigningKey secret.Source `yaml:"signing_key"`
	// Tolerance is how far the signed time may be from now, on both sides.
	Tolerance time.Duration `yaml:"tolerance"`
	// Live is what events say of themselves; the protocol has no word for it. Unset
	// means that it is not known.
	Live *bool `yaml:"live"`
	// Mapping reads the sender's JSON. The first rule that matches counts; what none
	// matches is kept as unmapped. Empty means DefaultMapping.
	Mapping []Rule `yaml:"mapping"`
}

// DefaultOptions returns the options of a sender that has yet to get a secret.
func DefaultOptions() Options {
	return Options{Tolerance: 5 * time.Minute}
}

// Bounds of the tolerance.
const (
	minTolerance = time.Second
	maxTolerance = time.Hour
)

// fileScheme marks a public key that is read from a file.
const fileScheme = "file:"

// Validate reports every problem; it reads no file.
func (o Options) Validate() error {
	errs := []error{o.validate()}
	if len(o.Secrets) == 0 && len(o.PublicKeys) == 0 {
		errs = append(errs, errors.New("secrets: name at least one source, or a key in public_keys"))
	}
	return errors.Join(errs...)
}

// validate leaves out that there has to be a key: a Provider without one refuses
// everything, which is safe, so New lets it be.
func (o Options) validate() error {
	var errs []error
	for i, s := range o.Secrets {
		if err := s.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("secrets[%d]: %w", i, err))
		}
	}
	for i, text := range o.PublicKeys {
		if strings.HasPrefix(text, fileScheme) {
			continue
		}
		if _, err := parsePublicKey(text); err != nil {
			errs = append(errs, fmt.Errorf("public_keys[%d]: %w", i, err))
		}
	}
	if !o.SigningKey.IsZero() {
		if err := o.SigningKey.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("signing_key: %w", err))
		}
	}
	if o.Tolerance < minTolerance || o.Tolerance > maxTolerance {
		errs = append(errs, fmt.Errorf("tolerance: must be between %s and %s", minTolerance, maxTolerance))
	}
	for i, r := range o.Mapping {
		for _, err := range r.validate() {
			errs = append(errs, fmt.Errorf("mapping[%d].%w", i, err))
		}
	}
	return errors.Join(errs...)
}

// rules are the configured mapping, or the default one.
func (o Options) rules() []Rule {
	if len(o.Mapping) == 0 {
		return DefaultMapping()
	}
	return o.Mapping
}
