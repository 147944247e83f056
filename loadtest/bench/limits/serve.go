package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin" //nolint:depguard // a limit stands on what the gateway stands on
	"github.com/redis/go-redis/v9"
)

// paid is what is decoded of a callback.
type paid struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Created int64  `json:"created"`
	Data    struct {
		Object struct {
			ID             string `json:"id"`
			Status         string `json:"status"`
			AmountReceived int64  `json:"amount_received"`
			Currency       string `json:"currency"`
			Metadata       struct {
				Order    string `json:"order_id"`
				Customer string `json:"customer_id"`
			} `json:"metadata"`
		} `json:"object"`
	} `json:"data"`
}

// check verifies and decodes a callback, and returns its id.
type check func(r *http.Request, body []byte) (id string, err error)

var errSignature = errors.New("signature mismatch")

func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	address := flags.String("address", "", "loopback host:port to listen at")
	provider := flags.String("provider", "stripe", "whose signature: stripe, alipay or wechat")
	server := flags.String("redis", "", "host:port of the Redis that one XADD a request goes to; empty stores nothing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var verify check
	var err error
	switch *provider {
	case "stripe":
		verify = stripe([]byte(os.Getenv("BENCH_STRIPE")))
	case "alipay":
		verify, err = alipay(os.Getenv("BENCH_PUBLIC_KEY"))
	case "wechat":
		verify, err = weChat(os.Getenv("BENCH_PUBLIC_KEY"), os.Getenv("BENCH_APIV3"))
	default:
		err = errors.New("-provider: stripe, alipay or wechat")
	}
	if err != nil {
		return err
	}
	var store *redis.Client
	if *server != "" {
		store = redis.NewClient(&redis.Options{Addr: *server})
		defer store.Close()
	}

	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.POST("/callbacks/:account", func(c *gin.Context) {
		body := make([]byte, c.Request.ContentLength)
		if _, err := io.ReadFull(c.Request.Body, body); err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		id, err := verify(c.Request, body)
		if err != nil {
			c.String(http.StatusUnauthorized, "refused")
			return
		}
		if store != nil {
			if err := store.XAdd(c.Request.Context(), &redis.XAddArgs{Stream: "bench", Values: []any{"id", id, "body", body}}).Err(); err != nil {
				c.String(http.StatusServiceUnavailable, "again")
				return
			}
		}
		c.String(http.StatusOK, "success")
	})
	engine.GET("/readyz", func(c *gin.Context) { c.String(http.StatusOK, "ready") })
	srv := &http.Server{Addr: *address, Handler: engine, ReadHeaderTimeout: 5 * time.Second}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stopped <- srv.Close()
	}()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// decode reads a Stripe event.
func decode(body []byte) (p paid, err error) {
	if err := json.Unmarshal(body, &p); err != nil {
		return p, err
	}
	if p.ID == "" || p.Data.Object.Metadata.Order == "" {
		return p, errors.New("no id or no order")
	}
	return p, nil
}
