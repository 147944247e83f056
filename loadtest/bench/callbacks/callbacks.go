// Package callbacks makes lists of signed callbacks, as Stripe, Alipay and WeChat Pay
// send them, with keys that are made for one run. It signs by the providers' documents
// and imports nothing of paybell. Callback n of a list pays order n of the run; no two
// have an id in common.
package callbacks

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/paybell/paybell/loadtest/bench/send"
)

// The accounts' names, which end the paths of their callbacks.
const (
	Stripe = "stripe-bench"
	Alipay = "alipay-bench"
	WeChat = "wechat-bench"
)

// What the accounts are configured with beside their keys.
const (
	AppID     = "2021000000000042"
	SellerID  = "2088000000000042"
	MchID     = "1900000042"
	WeChatApp = "wx0000000000000042"
	KeyID     = "PUB_KEY_ID_0119000000422026"
)

// Keys are the secrets of a run.
type Keys struct {
	Run          string
	StripeSecret string
	APIv3        string
	private      *rsa.PrivateKey
	// Public is the key of Alipay and WeChat Pay, PEM.
	Public string
}

// NewKeys makes the keys of a run, and a name for it that is in every id.
func NewKeys() (*Keys, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	return &Keys{
		Run:          "b" + strings.ToLower(rand.Text()[:6]),
		StripeSecret: "whsec_" + rand.Text(),
		APIv3:        (rand.Text() + rand.Text())[:32],
		private:      private,
		Public:       string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
	}, nil
}

// List signs callbacks 0 to n-1 of an account.
func (k *Keys) List(account string, n int) (*send.List, error) {
	var sign func(*send.List, int, time.Time) error
	switch account {
	case Stripe:
		sign = k.stripe
	case Alipay:
		sign = k.alipay
	case WeChat:
		sign = k.weChat
	default:
		return nil, fmt.Errorf("no account %s", account)
	}
	now := time.Now()
	parts := make([]*send.List, runtime.GOMAXPROCS(0))
	errs := make([]error, len(parts))
	var all sync.WaitGroup
	for p := range parts {
		all.Go(func() {
			parts[p] = &send.List{}
			for i := n * p / len(parts); i < n*(p+1)/len(parts) && errs[p] == nil; i++ {
				errs[p] = sign(parts[p], i, now)
			}
		})
	}
	all.Wait()
	return send.Join(parts...), errors.Join(errs...)
}

// Cents is what order n costs.
func Cents(n int) int { return (1+n%100)*100 + 50 }

// Points is what order n is worth, one for every full dollar.
func Points(n int) int { return Cents(n) / 100 }

// Order is the reference of order n.
func (k *Keys) Order(n int) string { return fmt.Sprintf("%s-%08d", k.Run, n) }

// Number is the number of an order of this run.
func (k *Keys) Number(order string) (int, bool) {
	text, ours := strings.CutPrefix(order, k.Run+"-")
	n, err := strconv.Atoi(text)
	return n, ours && err == nil
}

// stripe adds payment_intent.succeeded, about 1.2 KB.
func (k *Keys) stripe(l *send.List, n int, now time.Time) error {
	at := strconv.FormatInt(now.Unix(), 10)
	cents := strconv.Itoa(Cents(n))
	id := fmt.Sprintf("%s%08d", k.Run, n)
	body := []byte(`{"id":"evt_` + id + `","object":"event","api_version":"2025-06-30.basil","created":` + at +
		`,"livemode":false,"pending_webhooks":1,"request":{"id":"req_` + id + `","idempotency_key":null},"type":"payment_intent.succeeded",` +
		`"data":{"object":{"id":"pi_` + id + `","object":"payment_intent","amount":` + cents + `,"amount_capturable":0,"amount_details":{"tip":{}},` +
		`"amount_received":` + cents + `,"application":null,"application_fee_amount":null,"automatic_payment_methods":{"enabled":true},` +
		`"canceled_at":null,"cancellation_reason":null,"capture_method":"automatic","client_secret":null,"confirmation_method":"automatic",` +
		`"created":` + at + `,"currency":"usd","customer":"cus_` + id + `","description":"Order ` + k.Order(n) + `","invoice":null,` +
		`"last_payment_error":null,"latest_charge":"ch_` + id + `","livemode":false,` +
		`"metadata":{"order_id":"` + k.Order(n) + `","customer_id":"` + k.Run + "-customer-" + strconv.Itoa(n%1000) + `"},` +
		`"next_action":null,"on_behalf_of":null,"payment_method":"pm_` + id + `","payment_method_types":["card"],"processing":null,` +
		`"receipt_email":null,"setup_future_usage":null,"shipping":null,"source":null,"statement_descriptor":null,"status":"succeeded",` +
		`"transfer_data":null,"transfer_group":null}}}`)
	mac := hmac.New(sha256.New, []byte(k.StripeSecret))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	l.Post("/callbacks/"+Stripe, "Content-Type: application/json; charset=utf-8\r\nStripe-Signature: t="+at+",v1="+hex.EncodeToString(mac.Sum(nil))+"\r\n", body)
	return nil
}

var china = time.FixedZone("UTC+8", 8*60*60)

// alipay adds a TRADE_SUCCESS notice: the parameters sorted by name and joined by &,
// without sign and sign_type, are what is signed (RSA2).
func (k *Keys) alipay(l *send.List, n int, now time.Time) error {
	date := now.In(china).Format(time.DateTime)
	amount := fmt.Sprintf("%d.%02d", Cents(n)/100, Cents(n)%100)
	values := map[string]string{
		"gmt_create": date, "charset": "utf-8", "gmt_payment": date, "notify_time": date, "subject": "Order " + k.Order(n),
		"buyer_id": "2088000000000099", "invoice_amount": amount, "version": "1.0",
		"notify_id": fmt.Sprintf("2026%s%024d", k.Run, n), "fund_bill_list": `[{"amount":"` + amount + `","fundChannel":"ALIPAYACCOUNT"}]`,
		"notify_type": "trade_status_sync", "out_trade_no": k.Order(n), "total_amount": amount, "trade_status": "TRADE_SUCCESS",
		"trade_no": fmt.Sprintf("2026%s%020d", k.Run, n), "auth_app_id": AppID, "receipt_amount": amount, "point_amount": "0.00",
		"buyer_pay_amount": amount, "app_id": AppID, "seller_id": SellerID, "passback_params": k.Run + "-customer-" + strconv.Itoa(n%1000),
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	var signed, form strings.Builder
	for i, name := range names {
		if i > 0 {
			signed.WriteByte('&')
		}
		signed.WriteString(name + "=" + values[name])
		form.WriteString("&" + name + "=" + url.QueryEscape(values[name]))
	}
	signature, err := k.sign(signed.String())
	if err != nil {
		return err
	}
	l.Post("/callbacks/"+Alipay, "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n",
		[]byte("sign="+url.QueryEscape(signature)+"&sign_type=RSA2"+form.String()))
	return nil
}

// weChat adds a TRANSACTION.SUCCESS notice: the resource is encrypted with the APIv3
// key, and timestamp, nonce and body, each with a line feed, are what is signed.
func (k *Keys) weChat(l *send.List, n int, now time.Time) error {
	date := now.In(china).Format(time.RFC3339)
	cents := strconv.Itoa(Cents(n))
	plain := `{"mchid":"` + MchID + `","appid":"` + WeChatApp + `","out_trade_no":"` + k.Order(n) +
		`","transaction_id":"` + fmt.Sprintf("42%s%020d", k.Run, n) +
		`","trade_type":"JSAPI","trade_state":"SUCCESS","trade_state_desc":"OK","bank_type":"OTHERS","attach":"` +
		k.Run + "-customer-" + strconv.Itoa(n%1000) + `","success_time":"` + date +
		`","payer":{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},"amount":{"total":` + cents + `,"payer_total":` + cents +
		`,"currency":"CNY","payer_currency":"CNY"}}`
	block, err := aes.NewCipher([]byte(k.APIv3))
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	nonce := rand.Text()[:aead.NonceSize()]
	sealed := aead.Seal(nil, []byte(nonce), []byte(plain), []byte("transaction"))
	body := fmt.Sprintf(`{"resource":{"original_type":"transaction","algorithm":"AEAD_AES_256_GCM","ciphertext":"%s","associated_data":"transaction","nonce":"%s"},`+
		`"id":"%s-notice-%08d","create_time":"%s","resource_type":"encrypt-resource","event_type":"TRANSACTION.SUCCESS","summary":"paid"}`,
		base64.StdEncoding.EncodeToString(sealed), nonce, k.Run, n, date)
	at, once := strconv.FormatInt(now.Unix(), 10), rand.Text()
	signature, err := k.sign(at + "\n" + once + "\n" + body + "\n")
	if err != nil {
		return err
	}
	l.Post("/callbacks/"+WeChat, "Content-Type: application/json\r\nWechatpay-Timestamp: "+at+"\r\nWechatpay-Nonce: "+once+
		"\r\nWechatpay-Serial: "+KeyID+"\r\nWechatpay-Signature-Type: WECHATPAY2-SHA256-RSA2048\r\nWechatpay-Signature: "+signature+"\r\n", []byte(body))
	return nil
}

func (k *Keys) sign(text string) (string, error) {
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, k.private, crypto.SHA256, sum[:])
	return base64.StdEncoding.EncodeToString(signature), err
}
