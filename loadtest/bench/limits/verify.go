package main

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tolerance is how old a signature may be, as the accounts that are measured have it.
const tolerance = time.Hour

func recent(text string) bool {
	at, err := strconv.ParseInt(text, 10, 64)
	return err == nil && time.Since(time.Unix(at, 0)).Abs() <= tolerance
}

// stripe verifies "t=<time>,v1=<hex>": an HMAC over "<time>.<body>".
func stripe(secret []byte) check {
	return func(r *http.Request, body []byte) (string, error) {
		at, given, ok := strings.Cut(strings.TrimPrefix(r.Header.Get("Stripe-Signature"), "t="), ",v1=")
		if !ok || !recent(at) {
			return "", errSignature
		}
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(at))
		mac.Write([]byte{'.'})
		mac.Write(body)
		sum, err := hex.DecodeString(given)
		if err != nil || !hmac.Equal(sum, mac.Sum(nil)) {
			return "", errSignature
		}
		p, err := decode(body)
		return p.ID, err
	}
}

func publicKey(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no public key")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return public, nil
}

func verifyRSA(key *rsa.PublicKey, signature, text string) error {
	given, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return errSignature
	}
	sum := sha256.Sum256([]byte(text))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], given)
}

// alipay verifies a form: its parameters sorted by name, without sign and sign_type.
func alipay(text string) (check, error) {
	key, err := publicKey(text)
	return func(_ *http.Request, body []byte) (string, error) {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return "", err
		}
		names := make([]string, 0, len(form))
		for name := range form {
			if name != "sign" && name != "sign_type" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		var signed strings.Builder
		signed.Grow(len(body))
		for i, name := range names {
			if i > 0 {
				signed.WriteByte('&')
			}
			signed.WriteString(name + "=" + form.Get(name))
		}
		return form.Get("notify_id"), verifyRSA(key, form.Get("sign"), signed.String())
	}, err
}

// weChat verifies timestamp, nonce and body, and decrypts the resource.
func weChat(text, apiv3 string) (check, error) {
	key, err := publicKey(text)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher([]byte(apiv3))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return func(r *http.Request, body []byte) (string, error) {
		at := r.Header.Get("Wechatpay-Timestamp")
		signed := at + "\n" + r.Header.Get("Wechatpay-Nonce") + "\n" + string(body) + "\n"
		if !recent(at) || verifyRSA(key, r.Header.Get("Wechatpay-Signature"), signed) != nil {
			return "", errSignature
		}
		var notice struct {
			ID       string `json:"id"`
			Resource struct {
				Ciphertext     []byte `json:"ciphertext"`
				AssociatedData string `json:"associated_data"`
				Nonce          string `json:"nonce"`
			} `json:"resource"`
		}
		if err := json.Unmarshal(body, &notice); err != nil {
			return "", err
		}
		plain, err := aead.Open(nil, []byte(notice.Resource.Nonce), notice.Resource.Ciphertext, []byte(notice.Resource.AssociatedData))
		if err != nil {
			return "", err
		}
		var payment struct {
			Order  string `json:"out_trade_no"`
			Ref    string `json:"transaction_id"`
			State  string `json:"trade_state"`
			Amount struct {
				Total    int64  `json:"total"`
				Currency string `json:"currency"`
			} `json:"amount"`
		}
		return notice.ID, json.Unmarshal(plain, &payment)
	}, err
}
