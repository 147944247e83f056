package alipay

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/paybell/paybell/configs/secret"
)

// Sign types as Alipay names them.
const (
	// RSA2 is RSASSA-PKCS1-v1_5 with SHA-256.
	RSA2 = "RSA2"
	// RSA is the same with SHA-1, which applications from before 2017 may still use.
	RSA = "RSA"
)

// fileScheme marks a key or certificate that is read from a file.
const fileScheme = "file:"

// Ways the merchant may have encoded its customer reference before it handed it
// to Alipay.
const (
	encodingURL  = "url"
	encodingNone = "none"
)

// Options configure one Alipay application's notices.
type Options struct {
	// AppID is the application the notices must be for.
	AppID string `yaml:"app_id"`
	// SellerID is the seller (2088…) that trade notices must name; empty accepts
	// every seller of the application.
	SellerID string `yaml:"seller_id"`
	// PublicKeys are Alipay's own public keys, newest first: the console's bare
	// base64, PEM, or "file:" and a path. The application's own public key, which
	// stands beside it in the console, is not what is wanted here.
	PublicKeys []string `yaml:"public_keys"`
	// Certificates are Alipay's certificates (alipayCertPublicKey_RSA2.crt) of an
	// application in certificate mode, newest first: PEM, or "file:" and a path. A
	// notice that names one by alipay_cert_sn is verified with that one alone.
	Certificates []string `yaml:"certificates"`
	// SignTypes are the accepted signatures: RSA2 and, for an application that
	// cannot do better, RSA, which is SHA-1. The notice does not get to choose.
	SignTypes []string `yaml:"sign_types"`
	// CustomerRef names the parameter that carries the merchant's own customer
	// reference, such as passback_params; empty where there is none.
	CustomerRef string `yaml:"customer_ref"`
	// CustomerRefEncoding says how the merchant encoded that reference when it made
	// the order: "url" or "none". Empty means url for passback_params, because
	// Alipay demands it there and hands it back as it got it, and none elsewhere.
	CustomerRefEncoding string `yaml:"customer_ref_encoding"`
	// Live is what events say of themselves: Alipay's notices do not tell its
	// sandbox from production. Unset means that it is not known.
	Live *bool `yaml:"live"`
	// SigningKey is the private key of a sandbox, with which the send command plays
	// Alipay. Of the real Alipay nobody but Alipay has it.
	SigningKey secret.Source `yaml:"signing_key"`
}

// DefaultOptions returns what an account has unless it says otherwise.
func DefaultOptions() Options { return Options{SignTypes: []string{RSA2}} }

// Validate checks the form of the options; it reads no file.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.AppID == "" {
		bad("app_id: must name the application the notices are for")
	}
	if len(o.PublicKeys) == 0 && len(o.Certificates) == 0 {
		bad("public_keys: name at least one key here or one certificate in certificates")
	}
	for i, k := range o.PublicKeys {
		if strings.TrimSpace(strings.TrimPrefix(k, fileScheme)) == "" {
			bad("public_keys[%d]: must not be empty", i)
		}
	}
	for i, c := range o.Certificates {
		if strings.TrimSpace(strings.TrimPrefix(c, fileScheme)) == "" {
			bad("certificates[%d]: must not be empty", i)
		}
	}
	if len(o.SignTypes) == 0 {
		bad("sign_types: must name RSA2, or RSA, or both")
	}
	for i, s := range o.SignTypes {
		if s != RSA2 && s != RSA {
			bad("sign_types[%d]: must be RSA2 or RSA", i)
		}
		if slices.Contains(o.SignTypes[:i], s) {
			bad("sign_types[%d]: is there twice", i)
		}
	}
	if o.CustomerRef != "" && (!plainName(o.CustomerRef) || o.CustomerRef == paramSign || o.CustomerRef == paramSignType) {
		bad("customer_ref: must be the name of a signed parameter")
	}
	if e := o.CustomerRefEncoding; e != "" && e != encodingURL && e != encodingNone {
		bad("customer_ref_encoding: must be url or none")
	}
	if !o.SigningKey.IsZero() {
		if err := o.SigningKey.Validate(); err != nil {
			bad("signing_key: %w", err)
		}
	}
	return errors.Join(errs...)
}

// decodesCustomerRef reports whether the customer reference is decoded once more
// than the form it came in.
func (o Options) decodesCustomerRef() bool {
	if o.CustomerRefEncoding != "" {
		return o.CustomerRefEncoding == encodingURL
	}
	return o.CustomerRef == paramPassback
}
