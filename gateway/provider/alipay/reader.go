package alipay

import (
	"fmt"
	"slices"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// reader reads the parameters of one notice and keeps the first thing that was
// wrong with any of them. An empty parameter is an absent one.
type reader struct {
	n   *notice
	err error
	// leftOut are the fields that could not be read and decide nothing.
	leftOut []string
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

// beside returns a parameter that decides nothing. One that cannot be read is left out.
func (r *reader) beside(name, field string) string {
	value, err := r.n.text(name)
	if err != nil {
		r.leaveOut(field)
	}
	return value
}

func (r *reader) leaveOut(field string) {
	if !slices.Contains(r.leftOut, field) {
		r.leftOut = append(r.leftOut, field)
	}
}

// time is the zero time when the parameter is absent or unreadable: a trade is
// not given up for its date.
func (r *reader) time(name string) time.Time {
	at, ok := r.n.time(name)
	if !ok {
		r.leaveOut(event.LeftOutOccurredAt)
	}
	return at
}

// yuan reads an amount that counts; Alipay's are in CNY. An absent one is nil.
func (r *reader) yuan(name string) *event.Money {
	m, err := r.amount(name)
	if err != nil {
		r.fail(err)
	}
	return m
}

func (r *reader) amount(name string) (*event.Money, error) {
	text, err := r.n.text(name)
	if err != nil || text == "" {
		return nil, err
	}
	m, err := event.ParseDecimal(text, currency)
	if err != nil || m.Minor < 0 {
		return nil, fmt.Errorf("%w: parameter %s is not an amount", provider.ErrMalformed, name)
	}
	return &m, nil
}
