package alipay

import (
	"fmt"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// reader reads the parameters of one notice and keeps the first thing that was
// wrong with any of them. An empty parameter is an absent one.
type reader struct {
	n   *notice
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) has(name string) bool { return r.n.form.Value(name) != "" }

func (r *reader) text(name string) string {
	value, err := r.n.text(name)
	if err != nil {
		r.fail(err)
	}
	return value
}

// time is the zero time when the parameter is absent or unreadable: a trade is
// not given up for its date.
func (r *reader) time(name string) time.Time { return r.n.time(name) }

// yuan reads an amount; Alipay's are in CNY. An absent one is nil.
func (r *reader) yuan(name string) *event.Money {
	text := r.text(name)
	if text == "" {
		return nil
	}
	m, err := event.ParseDecimal(text, currency)
	if err != nil || m.Minor < 0 {
		r.fail(fmt.Errorf("%w: parameter %s is not an amount", provider.ErrMalformed, name))
		return nil
	}
	return &m
}
