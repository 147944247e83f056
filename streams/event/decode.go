package event

import (
	"encoding/json"
	"errors"
	"time"
)

// decodeEvent reads the JSON of an event as encoding/json does. What Fields writes is
// read by a decoder that knows that form alone; whatever it does not know is left to
// encoding/json, from the beginning, so what is read and what is refused is the same
// (TestDecodingIsThatOfEncodingJSON).
func decodeEvent(text string, e *Event) error {
	d := decoder{text: text}
	if d.event(e); d.done() {
		return nil
	}
	*e = Event{}
	return decode(text, e)
}

// decodeEvidence is decodeEvent for evidence.
func decodeEvidence(text string, v *Evidence) error {
	d := decoder{text: text}
	if d.evidence(v); d.done() {
		return nil
	}
	*v = Evidence{}
	return decode(text, v)
}

// decode reads JSON by encoding/json. An error about a time would repeat the text that
// is none.
func decode(text string, v any) error {
	err := json.Unmarshal([]byte(text), v)
	if _, isTime := errors.AsType[*time.ParseError](err); isTime {
		return errors.New("a time is not RFC 3339")
	}
	return err
}

func (d *decoder) event(e *Event) {
	d.object(func(name string) int {
		switch name {
		case "schema":
			e.Schema = d.string()
			return 0
		case "event_id":
			e.ID = d.string()
			return 1
		case "type":
			e.Type = Type(d.string())
			return 2
		case "conflict_of":
			e.ConflictOf = d.string()
			return 3
		case "account":
			e.Account = d.string()
			return 4
		case "namespace":
			e.Namespace = d.string()
			return 5
		case "provider":
			e.Provider = d.string()
			return 6
		case "live":
			live := d.bool()
			e.Live = &live
			return 7
		case "occurred_at":
			e.OccurredAt = d.time()
			return 8
		case "received_at":
			e.ReceivedAt = d.time()
			return 9
		case "provider_event":
			d.providerEvent(&e.ProviderEvent)
			return 10
		case "merchant":
			d.merchant(&e.Merchant)
			return 11
		case "payment":
			e.Payment = new(Payment)
			d.payment(e.Payment)
			return 12
		case "refund":
			e.Refund = new(Refund)
			d.refund(e.Refund)
			return 13
		case "dispute":
			e.Dispute = new(Dispute)
			d.dispute(e.Dispute)
			return 14
		case "stock":
			e.Stock = new(Stock)
			d.stock(e.Stock)
			return 15
		case "left_out":
			e.LeftOut = d.list()
			return 16
		case "authenticity":
			e.Authenticity = Authenticity(d.string())
			return 17
		case "completeness":
			e.Completeness = Completeness(d.string())
			return 18
		case "raw":
			d.raw(&e.Raw)
			return 19
		default:
			return unknownMember
		}
	})
}

func (d *decoder) evidence(v *Evidence) {
	d.object(func(name string) int {
		switch name {
		case "key_id":
			v.KeyID = d.string()
			return 0
		case "signed_at":
			v.SignedAt = d.time()
			return 1
		case "headers":
			v.Headers = d.headers()
			return 2
		default:
			return unknownMember
		}
	})
}

func (d *decoder) providerEvent(p *ProviderEvent) {
	d.object(func(name string) int {
		switch name {
		case "id":
			p.ID = d.string()
			return 0
		case "id_authenticated":
			p.IDAuthenticated = d.bool()
			return 1
		case "type":
			p.Type = d.string()
			return 2
		case "sequence":
			p.Sequence = d.number()
			return 3
		default:
			return unknownMember
		}
	})
}

func (d *decoder) merchant(m *Merchant) {
	d.object(func(name string) int {
		switch name {
		case "account":
			m.Account = d.string()
			return 0
		case "app":
			m.App = d.string()
			return 1
		case "customer_ref":
			m.CustomerRef = d.string()
			return 2
		default:
			return unknownMember
		}
	})
}

func (d *decoder) payment(p *Payment) {
	d.object(func(name string) int {
		switch name {
		case "order_ref":
			p.OrderRef = d.string()
			return 0
		case "provider_ref":
			p.ProviderRef = d.string()
			return 1
		case "parent_ref":
			p.ParentRef = d.string()
			return 2
		case "related_refs":
			p.RelatedRefs = d.list()
			return 3
		case "method":
			p.Method = d.string()
			return 4
		case "amount":
			p.Amount = d.money()
			return 5
		case "captured":
			p.Captured = d.money()
			return 6
		case "refunded_total":
			p.RefundedTotal = d.money()
			return 7
		case "failure":
			p.Failure = new(Failure)
			d.failure(p.Failure)
			return 8
		case "final":
			p.Final = d.bool()
			return 9
		default:
			return unknownMember
		}
	})
}

func (d *decoder) failure(f *Failure) {
	d.object(func(name string) int {
		switch name {
		case "code":
			f.Code = d.string()
			return 0
		case "message":
			f.Message = d.string()
			return 1
		default:
			return unknownMember
		}
	})
}

func (d *decoder) refund(r *Refund) {
	d.object(func(name string) int {
		switch name {
		case "order_ref":
			r.OrderRef = d.string()
			return 0
		case "provider_ref":
			r.ProviderRef = d.string()
			return 1
		case "amount":
			r.Amount = d.money()
			return 2
		default:
			return unknownMember
		}
	})
}

func (d *decoder) dispute(p *Dispute) {
	d.object(func(name string) int {
		switch name {
		case "provider_ref":
			p.ProviderRef = d.string()
			return 0
		case "reason":
			p.Reason = d.string()
			return 1
		case "amount":
			p.Amount = d.money()
			return 2
		case "due_by":
			p.DueBy = d.time()
			return 3
		default:
			return unknownMember
		}
	})
}

func (d *decoder) stock(s *Stock) {
	d.object(func(name string) int {
		switch name {
		case "sku":
			s.SKU = d.string()
			return 0
		case "available":
			s.Available = d.number()
			return 1
		case "change":
			s.Change = d.number()
			return 2
		default:
			return unknownMember
		}
	})
}

func (d *decoder) money() *Money {
	m := new(Money)
	d.object(func(name string) int {
		switch name {
		case "value":
			m.Value = d.string()
			return 0
		case "minor":
			m.Minor = d.int64()
			return 1
		case "exponent":
			m.Exponent = d.int()
			return 2
		case "currency":
			m.Currency = d.string()
			return 3
		default:
			return unknownMember
		}
	})
	return m
}

func (d *decoder) raw(r *Raw) {
	d.object(func(name string) int {
		switch name {
		case "callback_id":
			r.CallbackID = d.string()
			return 0
		case "sha256":
			r.SHA256 = d.string()
			return 1
		case "index":
			r.Index = d.int()
			return 2
		default:
			return unknownMember
		}
	})
}

// headers reads an object of texts that has at least one.
func (d *decoder) headers() map[string]string {
	out := make(map[string]string)
	if d.skip('{'); d.next() == '}' {
		d.other = true
	}
	for !d.other {
		name := d.string()
		d.skip(':')
		if _, twice := out[name]; twice {
			d.other = true
		}
		out[name] = d.string()
		if d.next() != ',' {
			break
		}
		d.at++
	}
	d.skip('}')
	return out
}

// unknownMember is what the function given to object answers to a name it does not
// know; to any other, a number of its own below 64.
const unknownMember = -1
