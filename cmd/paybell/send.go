package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/paybell/paybell/cmd/internal/app"
	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// errRefused makes the command fail when a callback was not accepted.
var errRefused = errors.New("not every callback was accepted")

// sendCmd signs callbacks and posts them to a gateway, as the provider would.
type sendCmd struct {
	Account   string        `arg:"" help:"Configured account, such as alipay-sandbox."`
	Order     string        `required:"" help:"Merchant's order reference; with --count, -1, -2 … are added."`
	Amount    string        `default:"1.00" help:"Amount in major units, exact decimal text."`
	Currency  string        `help:"ISO 4217 code; the default is the provider's own."`
	Type      string        `default:"payment.succeeded" help:"Canonical type: payment.succeeded, payment.pending, payment.failed, payment.closed, refund.succeeded."`
	Customer  string        `default:"C1" help:"Merchant's own customer reference."`
	EventID   string        `name:"event-id" help:"Provider's event id; the default is made from the other values and the time."`
	At        time.Time     `format:"2006-01-02T15:04:05Z07:00" help:"When it happened and was signed (RFC 3339); the default is now."`
	Tamper    string        `enum:",body,signature,timestamp,drop-signature" default:"" help:"Spoil the signed callback: body, signature, timestamp or drop-signature."`
	Duplicate bool          `help:"Send every callback twice."`
	Count     int           `default:"1" help:"How many orders."`
	Rate      float64       `default:"0" help:"Callbacks a second; 0 is one after another."`
	URL       string        `name:"url" help:"Gateway, such as http://127.0.0.1:8080; the default is the configured address."`
	Timeout   time.Duration `default:"15s" help:"How long to wait for a reply."`
}

// Run implements the command.
func (s *sendCmd) Run(ctx context.Context, g *globals) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	if err := app.AddSandbox(c, false); err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	signer, err := app.Signer(c, s.Account, time.Now)
	if err != nil {
		return fmt.Errorf("sign as %s: %w", s.Account, err)
	}
	base := s.URL
	if base == "" {
		base = "http://" + c.Gateway.Address
	}
	url := strings.TrimSuffix(base, "/") + "/callbacks/" + s.Account
	amount, err := event.ParseDecimal(s.Amount, s.currency(c.Accounts[s.Account].Provider))
	if err != nil {
		return fmt.Errorf("%w: --amount %s: %w", errConfig, s.Amount, err)
	}
	limit := rate.NewLimiter(rate.Inf, 1)
	if s.Rate > 0 {
		limit = rate.NewLimiter(rate.Limit(s.Rate), 1)
	}
	client := &http.Client{Timeout: s.Timeout}
	refused := 0
	for i := range s.Count {
		cb, err := signer.Sign(s.sample(amount, i))
		if err != nil {
			return fmt.Errorf("sign as %s: %w", s.Account, err)
		}
		times := 1
		if s.Duplicate {
			times = 2
		}
		for range times {
			if err := limit.Wait(ctx); err != nil {
				return fmt.Errorf("send: %w", err)
			}
			ok, err := post(ctx, client, url, cb)
			if err != nil {
				return err
			}
			if !ok {
				refused++
			}
		}
	}
	if refused > 0 {
		return fmt.Errorf("%w: %d of them", errRefused, refused)
	}
	return nil
}

// sample is what the i-th callback says.
func (s *sendCmd) sample(amount event.Money, i int) provider.Sample {
	order, id := s.Order, s.EventID
	if s.Count > 1 {
		order = fmt.Sprintf("%s-%d", s.Order, i+1)
		if id != "" {
			id = fmt.Sprintf("%s-%d", id, i+1)
		}
	}
	at := s.At
	if at.IsZero() {
		at = time.Now()
	}
	return provider.Sample{
		Type: event.Type(s.Type), EventID: id, OrderRef: order, CustomerRef: s.Customer,
		Amount: amount, At: at.UTC(), Tamper: provider.Tamper(s.Tamper),
	}
}

// currency is the given one, or what the provider settles in when it says nothing.
func (s *sendCmd) currency(providerName string) string {
	switch {
	case s.Currency != "":
		return s.Currency
	case providerName == "alipay" || providerName == "wechatpay":
		return "CNY"
	default:
		return "USD"
	}
}

// post sends one callback, prints the reply and reports whether it was accepted.
func post(ctx context.Context, client *http.Client, url string, cb *provider.Callback) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, cb.Method, url, bytes.NewReader(cb.Body))
	if err != nil {
		return false, fmt.Errorf("post to %s: %w", url, err)
	}
	req.Header = cb.Header.Clone()
	req.URL.RawQuery = cb.RawQuery
	resp, err := client.Do(req)
	if err != nil {
		return false, fmt.Errorf("post: %w (is the gateway running?)", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return false, fmt.Errorf("read the reply: %w", err)
	}
	text := string(body)
	if text == "" {
		text = "(empty)"
	}
	_, err = fmt.Fprintf(os.Stdout, "%d %s\n", resp.StatusCode, text)
	return resp.StatusCode < http.StatusMultipleChoices, err
}
