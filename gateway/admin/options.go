package admin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/paybell/paybell/configs/secret"
)

// Options are where the operator's door is and who may pass it.
type Options struct {
	// Address is the host:port of the door. Beyond loopback a token is required.
	Address string `yaml:"address"`
	// Token is what a caller presents as "Authorization: Bearer <token>", at least 16
	// characters. Without one everybody on this machine may read everything here, and
	// replay and drop dead letters.
	Token secret.Source `yaml:"token"`
	// Hosts are further names under which browsers may call a door without a token.
	// localhost and IP addresses are always among them; other names are refused,
	// because a web page can make a name of its own point here.
	Hosts []string `yaml:"hosts"`
}

// DefaultOptions is a door for this machine alone.
func DefaultOptions() Options { return Options{Address: "127.0.0.1:9090"} }

// Validate reports every problem at once. It reads no secret.
func (o Options) Validate() error {
	var errs []error
	host, _, err := net.SplitHostPort(o.Address)
	switch {
	case err != nil:
		errs = append(errs, errors.New("address: must be host:port"))
	case o.Token.IsZero() && !loopback(host):
		errs = append(errs, errors.New("token: is required because address is reachable from other machines"))
	}
	if !o.Token.IsZero() {
		if err := o.Token.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("token: %w", err))
		}
	}
	for i, name := range o.Hosts {
		if name == "" || strings.ContainsAny(name, ":/ *") {
			errs = append(errs, fmt.Errorf("hosts[%d]: must be a host name without a port", i))
		}
	}
	return errors.Join(errs...)
}

// minToken is the shortest token accepted.
const minToken = 16

// ReadToken reads the token; it is empty where none is configured.
func (o Options) ReadToken() (secret.String, error) {
	if o.Token.IsZero() {
		return secret.String{}, nil
	}
	token, err := o.Token.Read()
	if err != nil {
		return secret.String{}, err
	}
	if len(token.Value.Reveal()) < minToken {
		return secret.String{}, ErrShortToken
	}
	return token.Value, nil
}

// loopback reports whether a listener on host is reachable from this machine alone.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
