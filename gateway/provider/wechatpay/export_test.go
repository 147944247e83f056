package wechatpay

import "time"

// NewWithShortKey is New with an APIv3 key of any size that AES has: the published
// vector's has 16 bytes, which New refuses.
func NewWithShortKey(o Options, now func() time.Time, key string) (*Provider, error) {
	k, err := newOpener("vector", []byte(key))
	if err != nil {
		return nil, err
	}
	return open(o, now, []*opener{k})
}
