// Package catalog is the list of every provider there is, by name. It is the one
// place that imports them all, so that nothing else has to: who configures, runs or
// plays a provider finds it here and knows it by its interface.
package catalog

import (
	"fmt"
	"slices"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/alipay"
	"github.com/paybell/paybell/gateway/provider/standardwebhooks"
	"github.com/paybell/paybell/gateway/provider/stripe"
	"github.com/paybell/paybell/gateway/provider/wechatpay"
)

// Options are a provider's own options: a pointer to its Options struct, with yaml
// tags.
type Options interface {
	// Validate checks the form of the options; it reads no file and no secret.
	Validate() error
}

// Entry is one provider.
type Entry struct {
	// Name is what configurations and events call the provider.
	Name string
	// Redelivery is the span over which the provider sends a callback again.
	Redelivery time.Duration
	// NewOptions returns a pointer to the provider's default options, to be decoded
	// into.
	NewOptions func() Options
	// New opens an account. It reads keys and secrets.
	New func(o Options, now func() time.Time) (provider.Provider, error)
	// Signer opens what plays the provider for an account; provider.ErrCannotSign
	// where only the provider itself can sign.
	Signer func(o Options, now func() time.Time) (provider.Signer, error)
	// Sandbox returns the options of an account to try things out with, whose keys are
	// generated under dir the first time and kept there.
	Sandbox func(dir string) (Options, error)
}

// Names lists every provider, sorted.
func Names() []string {
	entries := all()
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	return names
}

// Lookup returns the provider of that name.
func Lookup(name string) (Entry, bool) {
	for _, e := range all() {
		if e.Name == name {
			return e, true
		}
	}
	return Entry{}, false
}

func all() []Entry {
	return []Entry{
		entry(alipay.Name, alipay.Redelivery, alipay.DefaultOptions, alipay.New, alipay.NewSigner, alipay.Sandbox),
		entry(standardwebhooks.Name, standardwebhooks.Redelivery, standardwebhooks.DefaultOptions, standardwebhooks.New, standardwebhooks.NewSigner, standardwebhooks.Sandbox),
		entry(stripe.Name, stripe.Redelivery, stripe.DefaultOptions, stripe.New, stripe.NewSigner, stripe.Sandbox),
		entry(wechatpay.Name, wechatpay.Redelivery, wechatpay.DefaultOptions, wechatpay.New, wechatpay.NewSigner, wechatpay.Sandbox),
	}
}

// entry hides a provider's own types. Its options are handed around as a pointer,
// because that is what they are decoded into.
func entry[O any, PO interface {
	*O
	Options
}, P provider.Provider, S provider.Signer](
	name string,
	redelivery time.Duration,
	defaults func() O,
	open func(O, func() time.Time) (P, error),
	signer func(O, func() time.Time) (S, error),
	sandbox func(string) (O, error),
) Entry {
	own := func(o Options) (O, error) {
		if p, ok := o.(PO); ok && p != nil {
			return *p, nil
		}
		var none O
		return none, fmt.Errorf("catalog: %T are not the options of %s", o, name)
	}
	return Entry{
		Name:       name,
		Redelivery: redelivery,
		NewOptions: func() Options {
			o := defaults()
			return PO(&o)
		},
		New: func(o Options, now func() time.Time) (provider.Provider, error) {
			options, err := own(o)
			if err != nil {
				return nil, err
			}
			p, err := open(options, now)
			if err != nil {
				return nil, err // not p: a nil pointer in an interface is not nil
			}
			return p, nil
		},
		Signer: func(o Options, now func() time.Time) (provider.Signer, error) {
			options, err := own(o)
			if err != nil {
				return nil, err
			}
			s, err := signer(options, now)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
		Sandbox: func(dir string) (Options, error) {
			o, err := sandbox(dir)
			if err != nil {
				return nil, err
			}
			return PO(&o), nil
		},
	}
}
