package wechatpay_test

import (
	"bufio"
	"bytes"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/gateway/provider/wechatpay"
	"github.com/paybell/paybell/streams/event"
)

// vectorKey is the APIv3 key of the published vector, half as long as real ones.
const vectorKey = "testMchAPIv3Key0"

func vectorOptions() wechatpay.Options {
	o := wechatpay.DefaultOptions()
	o.MchID, o.AppID = "1234567890", "054aa7d7a2a54ab5898df65bd96f001c"
	o.PlatformCertificates = []string{"file:" + filepath.Join("testdata", "platform_certificate.pem")}
	return o
}

// vectorAt opens the account of the published vector at a time.
func vectorAt(tb testing.TB, o wechatpay.Options, at time.Time) *wechatpay.Provider {
	tb.Helper()
	p, err := wechatpay.NewWithShortKey(o, func() time.Time { return at }, vectorKey)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

var vectorTime = time.Unix(1624523846, 0)

func vector(tb testing.TB) *provider.Callback {
	tb.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", "notice.json"))
	if err != nil {
		tb.Fatal(err)
	}
	head, err := os.ReadFile(filepath.Join("testdata", "notice.headers"))
	if err != nil {
		tb.Fatal(err)
	}
	h, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(head, '\n')))).ReadMIMEHeader()
	if err != nil {
		tb.Fatal(err)
	}
	return &provider.Callback{ID: "cb_1", Method: "POST", Header: http.Header(h), Body: body, ReceivedAt: vectorTime}
}

func TestPublishedNotice(t *testing.T) {
	p := vectorAt(t, vectorOptions(), vectorTime)
	cb := vector(t)
	v, err := p.Verify(cb)
	if err != nil {
		t.Fatal(err)
	}
	if v.Evidence.KeyID != "D7CE59D1F522D701" || !v.Evidence.SignedAt.Equal(vectorTime) {
		t.Errorf("evidence %+v", v.Evidence)
	}
	ds, err := p.Decode(cb, v)
	if err != nil || len(ds) != 1 {
		t.Fatalf("decoded as %+v, %v", ds, err)
	}
	e := ds[0].Event
	if ds[0].Key != "3119dfba-e649-5eec-ab1e-3412bc4d2e17" || e.ProviderEvent.ID != ds[0].Key || !e.ProviderEvent.IDAuthenticated {
		t.Errorf("key %q, provider event %+v", ds[0].Key, e.ProviderEvent)
	}
	if e.Type != event.Unmapped || e.ProviderEvent.Type != "PAYSCORE.USER_OPEN_SERVICE" || e.MovesMoney() {
		t.Errorf("%s of %s", e.Type, e.ProviderEvent.Type)
	}
	if want := (event.Merchant{Account: "1234567890", App: "054aa7d7a2a54ab5898df65bd96f001c"}); e.Merchant != want {
		t.Errorf("merchant %+v: the resource was not decrypted right", e.Merchant)
	}
	if want := time.Date(2021, 6, 24, 8, 37, 26, 0, time.UTC); !e.OccurredAt.Equal(want) {
		t.Errorf("occurred at %v, want %v", e.OccurredAt, want)
	}
}

func TestPublishedNoticeAltered(t *testing.T) {
	p := vectorAt(t, vectorOptions(), vectorTime)
	cb := vector(t)
	cb.Body = bytes.Replace(cb.Body, []byte("3119dfba"), []byte("3119dfbb"), 1)
	refused(t, p, cb, provider.ReasonMismatch)
	refused(t, vectorAt(t, vectorOptions(), vectorTime.Add(5*time.Minute+time.Second)), vector(t), provider.ReasonStale)
	refused(t, vectorAt(t, vectorOptions(), vectorTime.Add(-5*time.Minute-time.Second)), vector(t), provider.ReasonFuture)
	o := vectorOptions()
	o.MchID = "1234567891"
	refused(t, vectorAt(t, o, vectorTime), vector(t), provider.ReasonIdentity)
	o = vectorOptions()
	o.AppID = "wx0000000000000001"
	refused(t, vectorAt(t, o, vectorTime), vector(t), provider.ReasonIdentity)
}

// TestShortKeyIsForTheVectorAlone: what the vector's test may, an account may not.
func TestShortKeyIsForTheVectorAlone(t *testing.T) {
	o := vectorOptions()
	o.APIv3Keys = append(o.APIv3Keys, file(t, vectorKey))
	_, err := wechatpay.New(o, clock)
	if err == nil || !strings.Contains(err.Error(), "apiv3_keys[0]") || strings.Contains(err.Error(), vectorKey) {
		t.Errorf("%v, want a refusal of apiv3_keys[0] that does not show it", err)
	}
}
