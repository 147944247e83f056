package stripe

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
)

// Options configure one Stripe endpoint: one webhook endpoint in Stripe's
// dashboard has one secret. Test mode has endpoints of its own, but a Connect
// endpoint of live mode gets the test events of its connected accounts too
// (docs.stripe.com/connect/webhooks); Live keeps them apart.
type Options struct {
	// Secrets are the endpoint's signing secrets ("whsec_…", the whole text), newest
	// first. Stripe signs with both while a secret is being rolled.
	Secrets secret.Slot `yaml:"secrets"`
	// Tolerance is how far the signed time may be from now, on both sides.
	Tolerance time.Duration `yaml:"tolerance"`
	// OrderRef are JSON pointers to the merchant's order reference; the first one
	// that leads to a text that is not empty counts. A transfer group that Stripe made
	// up for a destination charge (group_pi_…) names no order and is passed over.
	OrderRef []string `yaml:"order_ref"`
	// CustomerRef is a JSON pointer to the merchant's own customer reference, such
	// as /data/object/metadata/customer_id; empty where there is none. Without one
	// points stand on the order and belong to nobody.
	CustomerRef string `yaml:"customer_ref"`
	// Account is the connected account ("acct_…") that events of a Connect endpoint
	// must come from; empty accepts every account the endpoint's secret speaks for.
	Account string `yaml:"account"`
	// Live is the mode whose events count: true is live mode, false test mode. Events
	// of the other mode, or that name none, are kept as unmapped and move no money.
	// It must be set where account is, and should be for every Connect endpoint: one
	// of live mode gets the sellers' test payments too. Unset, both modes count.
	Live *bool `yaml:"live"`
}

// DefaultOptions returns the options of an endpoint that has yet to get a secret.
func DefaultOptions() Options {
	return Options{
		Tolerance: 5 * time.Minute,
		OrderRef: []string{
			"/data/object/metadata/order_id",
			"/data/object/client_reference_id",
			"/data/object/transfer_group",
		},
	}
}

// Bounds of the tolerance.
const (
	minTolerance = time.Second
	maxTolerance = time.Hour
)

// Validate reports every problem; it reads no secret.
func (o Options) Validate() error {
	errs := []error{o.validate()}
	if len(o.Secrets) == 0 {
		errs = append(errs, errors.New("secrets: name at least one source"))
	}
	return errors.Join(errs...)
}

// validate leaves out that there has to be a secret: a Provider without one
// refuses everything, which is safe, so New lets it be.
func (o Options) validate() error {
	var errs []error
	for i, s := range o.Secrets {
		if err := s.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("secrets[%d]: %w", i, err))
		}
	}
	if o.Tolerance < minTolerance || o.Tolerance > maxTolerance {
		errs = append(errs, fmt.Errorf("tolerance: must be between %s and %s", minTolerance, maxTolerance))
	}
	for i, p := range o.OrderRef {
		if err := provider.CheckPointer(p); err != nil {
			errs = append(errs, fmt.Errorf("order_ref[%d]: %w", i, err))
		}
	}
	if o.CustomerRef != "" {
		if err := provider.CheckPointer(o.CustomerRef); err != nil {
			errs = append(errs, fmt.Errorf("customer_ref: %w", err))
		}
	}
	if o.Account != "" && !strings.HasPrefix(o.Account, "acct_") {
		errs = append(errs, errors.New(`account: must begin with "acct_"`))
	}
	if o.Account != "" && o.Live == nil {
		errs = append(errs, errors.New("live: must be true or false where account is set: a Connect endpoint of live mode gets test events too"))
	}
	return errors.Join(errs...)
}
