package wechatpay

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/paybell/paybell/configs/secret"
	"github.com/paybell/paybell/gateway/provider"
)

// fileScheme marks a key or certificate that is read from a file.
const fileScheme = "file:"

// publicKeyPrefix begins every id of a WeChat Pay public key.
const publicKeyPrefix = "PUB_KEY_ID_"

// Bounds of the tolerance.
const (
	minTolerance = time.Second
	maxTolerance = time.Hour
)

// Options configure one merchant's notices.
type Options struct {
	// MchID is the merchant the notices must be for: the merchant itself, the
	// service provider (sp_mchid) or the one who combined the orders (combine_mchid).
	MchID string `yaml:"mchid"`
	// SubMchID is the only sub-merchant of a service provider whose notices are
	// accepted; empty accepts all of them.
	SubMchID string `yaml:"sub_mchid"`
	// AppID is the application that payments must name; empty accepts all of the
	// merchant's. Refund notices name none.
	AppID string `yaml:"appid"`
	// PlatformCertificates are WeChat Pay's platform certificates: PEM, or "file:"
	// and a path. Callbacks name one by its serial number.
	PlatformCertificates []string `yaml:"platform_certificates"`
	// PublicKeys are WeChat Pay's public keys, which merchants since 2024 have
	// instead. While a merchant moves from certificates to a key callbacks come
	// under both.
	PublicKeys []PublicKey `yaml:"public_keys"`
	// APIv3Keys are the merchant's APIv3 keys of 32 bytes, newest first: notices are
	// encrypted with them. The APIv2 key is another one.
	APIv3Keys secret.Slot `yaml:"apiv3_keys"`
	// Tolerance is how far the signed time may be from now, on both sides.
	Tolerance time.Duration `yaml:"tolerance"`
	// CustomerRef is a JSON pointer to the merchant's own customer reference in the
	// decrypted notice, such as /attach; empty where there is none.
	CustomerRef string `yaml:"customer_ref"`
	// Live is what events say of themselves: WeChat Pay's notices do not tell tests
	// from production. Unset means that it is not known.
	Live *bool `yaml:"live"`
	// SigningKey is the private key of a sandbox, with which the send command plays
	// WeChat Pay. Of the real one nobody but WeChat Pay has it.
	SigningKey secret.Source `yaml:"signing_key"`
}

// PublicKey is one WeChat Pay public key.
type PublicKey struct {
	// ID is how callbacks name the key: PUB_KEY_ID_ and digits.
	ID string `yaml:"id"`
	// Key is PEM, bare base64, or "file:" and a path.
	Key string `yaml:"key"`
}

// DefaultOptions returns what an account has unless it says otherwise.
func DefaultOptions() Options { return Options{Tolerance: 5 * time.Minute} }

// Validate checks the form of the options; it reads no file.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.MchID == "" {
		bad("mchid: must name the merchant the notices are for")
	}
	if len(o.PublicKeys) == 0 && len(o.PlatformCertificates) == 0 {
		bad("public_keys: name at least one key here or one certificate in platform_certificates")
	}
	ids := map[string]bool{}
	for i, k := range o.PublicKeys {
		if !strings.HasPrefix(k.ID, publicKeyPrefix) || len(k.ID) == len(publicKeyPrefix) {
			bad("public_keys[%d].id: must begin with %s", i, publicKeyPrefix)
		}
		if ids[k.ID] {
			bad("public_keys[%d].id: is there twice", i)
		}
		ids[k.ID] = true
		if blankRef(k.Key) {
			bad("public_keys[%d].key: must not be empty", i)
		}
	}
	for i, c := range o.PlatformCertificates {
		if blankRef(c) {
			bad("platform_certificates[%d]: must not be empty", i)
		}
	}
	if len(o.APIv3Keys) == 0 {
		bad("apiv3_keys: name at least one source")
	}
	for i, s := range o.APIv3Keys {
		if err := s.Validate(); err != nil {
			bad("apiv3_keys[%d]: %w", i, err)
		}
	}
	if o.Tolerance < minTolerance || o.Tolerance > maxTolerance {
		bad("tolerance: must be between %s and %s", minTolerance, maxTolerance)
	}
	if o.CustomerRef != "" {
		if err := provider.CheckPointer(o.CustomerRef); err != nil {
			bad("customer_ref: %w", err)
		}
		for _, personal := range []string{"/payer", "/combine_payer_info"} {
			if o.CustomerRef == personal || strings.HasPrefix(o.CustomerRef, personal+"/") {
				bad("customer_ref: must not be the payer's identity at WeChat, which is personal data")
			}
		}
	}
	if !o.SigningKey.IsZero() {
		if err := o.SigningKey.Validate(); err != nil {
			bad("signing_key: %w", err)
		}
	}
	return errors.Join(errs...)
}

func blankRef(ref string) bool { return strings.TrimSpace(strings.TrimPrefix(ref, fileScheme)) == "" }
