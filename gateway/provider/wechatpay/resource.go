package wechatpay

import (
	"encoding/base64"
	"fmt"

	"github.com/paybell/paybell/gateway/provider"
)

// algorithm is the only one a resource may be encrypted with.
const algorithm = "AEAD_AES_256_GCM"

// open decrypts the resource of an authentic callback with the newest APIv3 key
// that fits. A key that is missing here is our mistake, and refusing makes WeChat
// Pay send the notice again while there is time to put it right.
func (p *Provider) open(resource provider.Value) ([]byte, error) {
	if resource.Kind() != provider.Object {
		return nil, fmt.Errorf("%w: there is no resource", provider.ErrMalformed)
	}
	if got := resource.Member("algorithm").TextOr(""); got != algorithm {
		return nil, provider.Refuse(provider.ReasonUnsupported, "the resource is not encrypted with %s", algorithm)
	}
	ciphertext, err := base64.StdEncoding.DecodeString(resource.Member("ciphertext").TextOr(""))
	if err != nil {
		return nil, fmt.Errorf("%w: the ciphertext is not base64", provider.ErrMalformed)
	}
	nonce := []byte(resource.Member("nonce").TextOr(""))
	associated := []byte(resource.Member("associated_data").TextOr(""))
	now := p.window.Now()
	usable := 0
	for _, k := range p.openers {
		if !k.validAt(now) {
			continue
		}
		usable++
		if len(nonce) != k.aead.NonceSize() {
			return nil, fmt.Errorf("%w: the nonce does not have %d bytes", provider.ErrMalformed, k.aead.NonceSize())
		}
		if plain, err := k.aead.Open(nil, nonce, ciphertext, associated); err == nil {
			return plain, nil
		}
	}
	if usable == 0 {
		return nil, provider.Refuse(provider.ReasonNoKey, "none of %d APIv3 keys is valid now", len(p.openers))
	}
	return nil, provider.Refuse(provider.ReasonUnknownKey, "the resource opens with none of the APIv3 keys")
}
