package stripe

import (
	"fmt"
	"strings"
	"time"

	"github.com/paybell/paybell/gateway/provider"
	"github.com/paybell/paybell/streams/event"
)

// Kinds of the outermost object.
const (
	objectEvent = "event"
	// objectThin is an event of the v2 API: it names an object and says nothing
	// about it.
	objectThin = "v2.core.event"
)

// Decode implements provider.Provider.
func (p *Provider) Decode(cb *provider.Callback, _ *provider.Verified) ([]provider.Decoded, error) {
	doc, err := provider.ParseJSON(cb.Body)
	if err != nil {
		return nil, err
	}
	defer doc.Free()
	root := doc.Root()
	id, word := root.Member("id").TextOr(""), root.Member("type").TextOr("")
	if id == "" || word == "" {
		return nil, fmt.Errorf("%w: event without id or type", provider.ErrMalformed)
	}
	decoded := []provider.Decoded{{Key: id, Event: event.Event{
		Type:          event.Unmapped,
		ProviderEvent: event.ProviderEvent{ID: id, IDAuthenticated: true, Type: word},
		Authenticity:  event.Signature,
		Completeness:  event.Full,
	}}}
	e := &decoded[0].Event
	if live, ok := root.Member("livemode").Bool(); ok {
		e.Live = provider.Live(live)
	}
	switch root.Member("object").TextOr("") {
	case objectEvent:
		err = p.snapshot(e, root)
	case objectThin:
		err = p.thin(e, root)
	default:
		err = fmt.Errorf("%w: neither an event nor a thin event", provider.ErrMalformed)
	}
	if err != nil {
		return nil, err
	}
	if p.otherMode(e) {
		// It is kept with all it says; of another mode there is nothing to fetch either.
		e.Type, e.Completeness = event.Unmapped, event.Full
	}
	return decoded, nil
}

// otherMode reports whether the event is not of the account's mode, live or test,
// or does not say of which it is.
func (p *Provider) otherMode(e *event.Event) bool {
	return p.options.Live != nil && (e.Live == nil || *e.Live != *p.options.Live)
}

// thin reads an event that carries ids alone.
func (p *Provider) thin(e *event.Event, root provider.Value) error {
	e.Merchant.Account = root.Member("context").TextOr("")
	if err := p.checkAccount(e.Merchant.Account); err != nil {
		return err
	}
	if v := root.Member("created"); v.Kind() > provider.Null {
		at, err := time.Parse(time.RFC3339Nano, v.TextOr(""))
		if err != nil {
			e.LeftOut = append(e.LeftOut, event.LeftOutOccurredAt)
		} else {
			e.OccurredAt = at.UTC().Truncate(time.Millisecond)
		}
	}
	e.Type, e.Completeness = event.PaymentReference, event.NeedsFetch
	e.Payment = &event.Payment{ProviderRef: root.At("/related_object/id").TextOr("")}
	return nil
}

// snapshot reads an event that carries its object as it was at that moment.
func (p *Provider) snapshot(e *event.Event, root provider.Value) error {
	e.Merchant.Account = root.Member("account").TextOr("")
	if err := p.checkAccount(e.Merchant.Account); err != nil {
		return err
	}
	if v := root.Member("created"); v.Kind() > provider.Null {
		at, ok := unixTime(v)
		if !ok {
			e.LeftOut = append(e.LeftOut, event.LeftOutOccurredAt)
		}
		e.OccurredAt = at
	}
	if p.options.CustomerRef != "" {
		v := root.At(p.options.CustomerRef)
		if v.Unreadable() {
			e.LeftOut = append(e.LeftOut, event.LeftOutCustomerRef)
		}
		e.Merchant.CustomerRef = v.TextOr("")
	}
	order, err := p.orderRef(root)
	if err != nil {
		return err
	}
	r := reading{
		event:   e,
		word:    e.ProviderEvent.Type,
		object:  root.At("/data/object"),
		version: root.Member("api_version").TextOr(""),
		pay:     event.Payment{OrderRef: order},
	}
	w, ok := lookUp(r.word)
	if !ok {
		// An event we have no word for still stays in order with its order.
		if r.pay.OrderRef != "" {
			e.Payment = &r.pay
		}
		return nil
	}
	if r.id = r.object.Member("id").TextOr(""); r.id == "" {
		return fmt.Errorf("%w: object without id", provider.ErrMalformed)
	}
	e.Type, e.Payment = w.typ, &r.pay
	return w.read(&r, w)
}

// checkAccount refuses what another connected account says.
func (p *Provider) checkAccount(account string) error {
	if p.options.Account != "" && account != p.options.Account {
		return provider.Refuse(provider.ReasonIdentity, "the event is of another connected account")
	}
	return nil
}

func (p *Provider) orderRef(root provider.Value) (string, error) {
	for _, pointer := range p.options.OrderRef {
		v := root.At(pointer)
		if v.Kind() == provider.String && v.Unreadable() {
			return "", fmt.Errorf("%w: the order reference holds half of a surrogate pair", provider.ErrMalformed)
		}
		if ref := v.TextOr(""); ref != "" && !stripesGroup(ref) {
			return ref, nil
		}
	}
	return "", nil
}

// stripesGroup reports whether a transfer group is one that Stripe made up for a
// destination charge, from the id of the payment: it names no order.
func stripesGroup(ref string) bool {
	id, ok := strings.CutPrefix(ref, "group_")
	return ok && (strings.HasPrefix(id, "pi_") || strings.HasPrefix(id, "ch_") || strings.HasPrefix(id, "py_"))
}

// latest is the end of the year 9999, behind which times have no RFC 3339 form.
const latest = 253402300799

func unixTime(v provider.Value) (time.Time, bool) {
	seconds, ok := v.Int64()
	if !ok || seconds < 0 || seconds > latest {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0).UTC(), true
}

// reference is an id, or the id of an object that was expanded in its place.
func reference(v provider.Value) string {
	if v.Kind() == provider.Object {
		v = v.Member("id")
	}
	return v.TextOr("")
}
