package standardwebhooks_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strconv"
	"testing"

	"github.com/paybell/paybell/gateway/provider/standardwebhooks"
)

// smallOrder are the eight points of small order in every encoding that
// crypto/ed25519 decodes: the canonical ones, y = p and y = p + 1, and the sign bit
// beside an x of zero.
var smallOrder = map[string]string{
	"order 1":                       "0100000000000000000000000000000000000000000000000000000000000000",
	"order 1, sign bit":             "0100000000000000000000000000000000000000000000000000000000000080",
	"order 1, y = p + 1":            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"order 1, y = p + 1, sign bit":  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"order 2":                       "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"order 2, sign bit":             "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"order 4, x positive: 32 zeros": "0000000000000000000000000000000000000000000000000000000000000000",
	"order 4, x negative":           "0000000000000000000000000000000000000000000000000000000000000080",
	"order 4, x positive, y = p":    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"order 4, x negative, y = p":    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"order 8, first y, x positive":  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"order 8, first y, x negative":  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	"order 8, second y, x positive": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"order 8, second y, x negative": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
}

func TestKeysThatLetAnybodyIn(t *testing.T) {
	good := hex.EncodeToString(key("usual")[32:])
	cases := map[string]struct {
		key  string
		want error
	}{
		"a real key":      {good, nil},
		"no point: y = 2": {"0200000000000000000000000000000000000000000000000000000000000000", standardwebhooks.ErrOffCurve},
		"no point, y > p": {"efffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", standardwebhooks.ErrOffCurve},
	}
	for name, text := range smallOrder {
		cases[name] = struct {
			key  string
			want error
		}{text, standardwebhooks.ErrSmallOrder}
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			raw, err := hex.DecodeString(tc.key)
			if err != nil {
				t.Fatal(err)
			}
			text := "whpk_" + base64.StdEncoding.EncodeToString(raw)
			inline, fromFile := standardwebhooks.DefaultOptions(), standardwebhooks.DefaultOptions()
			inline.PublicKeys = []string{text}
			fromFile.PublicKeys = []string{"file:" + file(t, t.TempDir(), "public", text).File}
			if err := inline.Validate(); !errors.Is(err, tc.want) {
				t.Errorf("Validate: got %v, want %v", err, tc.want)
			}
			for where, o := range map[string]standardwebhooks.Options{"inline": inline, "from a file": fromFile} {
				if _, err := standardwebhooks.New(o, vectorNow); !errors.Is(err, tc.want) {
					t.Errorf("%s: got %v, want %v", where, err, tc.want)
				}
			}
		})
	}
}

// TestZeroKeyWouldBelieveAForgery shows what the check is for: without any private key
// a few tries make a signature that crypto/ed25519 accepts under the zero key.
func TestZeroKeyWouldBelieveAForgery(t *testing.T) {
	zero := ed25519.PublicKey(make([]byte, ed25519.PublicKeySize))
	// R is the identity and S is zero: right whenever the digest is a multiple of 4.
	forged := append([]byte{1}, make([]byte, ed25519.SignatureSize-1)...)
	for try := range 200 {
		message := strconv.AppendInt([]byte(`{"type":"payment.succeeded","amount":`), int64(try), 10)
		if ed25519.Verify(zero, bytes.Clone(message), forged) {
			return
		}
	}
	t.Error("no forgery was accepted in 200 tries; crypto/ed25519 may have begun to check the order")
}
