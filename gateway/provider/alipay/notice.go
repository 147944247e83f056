package alipay

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/paybell/paybell/gateway/provider"
)

// Parameters of a notice that this package reads.
const (
	paramSign       = "sign"
	paramSignType   = "sign_type"
	paramCharset    = "charset"
	paramCertSN     = "alipay_cert_sn"
	paramAppID      = "app_id"
	paramSellerID   = "seller_id"
	paramNotifyID   = "notify_id"
	paramNotifyType = "notify_type"
	paramNotifyTime = "notify_time"
	paramMsgMethod  = "msg_method"
	paramMethod     = "method"
	paramStatus     = "trade_status"
	paramOutTradeNo = "out_trade_no"
	paramTradeNo    = "trade_no"
	paramOutBizNo   = "out_biz_no"
	paramOutRequest = "out_request_no"
	paramTotal      = "total_amount"
	paramRefundFee  = "refund_fee"
	paramCreated    = "gmt_create"
	paramPaid       = "gmt_payment"
	paramRefunded   = "gmt_refund"
	paramClosed     = "gmt_close"
	paramPassback   = "passback_params"
)

// decisive are the parameters that decide a type, an amount, a reference, an identity
// or a time, or how the others are read. A signature covers each of them, but for
// sign_type, which it covers in one of its two forms.
var decisive = []string{
	paramAppID, paramSellerID, paramNotifyID, paramNotifyType, paramStatus, paramOutTradeNo, paramTradeNo, paramOutBizNo,
	paramOutRequest, paramTotal, paramRefundFee, paramPaid, paramRefunded, paramCreated, paramClosed, paramCharset,
	paramSignType, paramCertSN,
}

// maxName bounds a parameter's name; the longest known one has 24 bytes.
const maxName = 64

// chinaTime is the zone of every time in a notice; none is written out.
var chinaTime = time.FixedZone("UTC+8", 8*60*60)

const timeLayout = "2006-01-02 15:04:05"

// notice is a form that was read once. Values are the bytes that were signed, in
// the character set of the notice.
type notice struct {
	form provider.Form
	sign []byte
}

// parseNotice reads the form and the signature in it.
func parseNotice(body []byte) (*notice, error) {
	form, err := provider.ParseForm(body)
	if err != nil {
		return nil, err
	}
	for i, p := range form.Pairs() {
		// A name with = or & in it would let a signature over one set of parameters
		// pass for another set that joins to the same text.
		if !plainName(p.Key) {
			return nil, provider.Refuse(provider.ReasonMalformedBody, "form parameter %d has a name Alipay does not use", i)
		}
	}
	n := &notice{form: form}
	n.sign, err = decodeSign(form.Value(paramSign))
	return n, err
}

// plainName reports whether a name has only the bytes that names have.
func plainName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// text returns a parameter as UTF-8, "" when it is absent.
func (n *notice) text(name string) (string, error) {
	value := n.form.Value(name)
	switch charset := n.form.Value(paramCharset); {
	case isASCII(value):
		return value, nil
	case charset == "" || strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "utf8"):
		if !utf8.ValidString(value) {
			return "", fmt.Errorf("%w: parameter %s is not UTF-8", provider.ErrMalformed, name)
		}
		return value, nil
	case strings.EqualFold(charset, "gb18030"):
		return decode(simplifiedchinese.GB18030, name, value)
	case strings.EqualFold(charset, "gbk") || strings.EqualFold(charset, "gb2312"):
		// GBK contains all of GB2312.
		return decode(simplifiedchinese.GBK, name, value)
	default:
		return "", fmt.Errorf("%w: the character set is not known", provider.ErrMalformed)
	}
}

func decode(charset encoding.Encoding, name, value string) (string, error) {
	decoded, err := charset.NewDecoder().String(value)
	if err != nil || strings.ContainsRune(decoded, utf8.RuneError) {
		return "", fmt.Errorf("%w: parameter %s is not in the notice's character set", provider.ErrMalformed, name)
	}
	return decoded, nil
}

// time returns a parameter as a time in UTC, zero when it is absent; ok is false when it
// is there and no time.
func (n *notice) time(name string) (at time.Time, ok bool) {
	text := n.form.Value(name)
	if text == "" {
		return time.Time{}, true
	}
	at, err := time.ParseInLocation(timeLayout, text, chinaTime)
	if err != nil {
		return time.Time{}, false
	}
	return at.UTC().Truncate(time.Millisecond), true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
