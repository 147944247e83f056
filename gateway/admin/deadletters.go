package admin

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/event"
)

// deadLetterQuery are the parameters of a list of dead letters.
type deadLetterQuery struct {
	Group   string    `validate:"required,max=128"`
	Account string    `validate:"max=64"`
	Order   string    `validate:"max=512"`
	Type    string    `validate:"max=64"`
	Reason  string    `validate:"omitempty,oneof=rejected attempts age crash unreadable cap"`
	Since   time.Time `validate:"-"`
	Until   time.Time `validate:"omitempty,gtfield=Since"`
	Limit   int       `validate:"min=1,max=500"`
	Cursor  string    `validate:"max=64"`
}

// DeadLetter is a dead letter as a list shows it.
type DeadLetter struct {
	ID        string    `json:"id"`
	Group     string    `json:"group"`
	Reason    string    `json:"reason"`
	Error     string    `json:"error,omitempty"`
	Attempts  int       `json:"attempts"`
	DeadAt    time.Time `json:"dead_at"`
	Consumer  string    `json:"consumer,omitempty"`
	Partition int       `json:"partition"`
	EntryID   string    `json:"entry_id"`
	// ReplayOf is the dead letter whose replay came to this one.
	ReplayOf string `json:"replay_of,omitempty"`
	// The event's own are empty when the entry could not be read.
	EventID  string     `json:"event_id,omitempty"`
	Type     event.Type `json:"type,omitempty"`
	Account  string     `json:"account,omitempty"`
	OrderRef string     `json:"order_ref,omitempty"`
}

// DeadLetterDetail is one dead letter with its event. The callback's body and
// headers stay in the event log.
type DeadLetterDetail struct {
	DeadLetter
	Event     *event.Event `json:"event,omitempty"`
	KeyID     string       `json:"key_id,omitempty"`
	SignedAt  time.Time    `json:"signed_at,omitzero"`
	BodyBytes int          `json:"body_bytes"`
}

// deadLetterList is the answer to /api/v1/deadletters/{group}.
type deadLetterList struct {
	DeadLetters []DeadLetter `json:"dead_letters"`
	// Cursor continues after this page; left out on the last one.
	Cursor string `json:"cursor,omitempty"`
}

func (a *Admin) listDeadLetters(c *gin.Context) {
	q, now := newQuery(c), a.deps.Now()
	want := deadLetterQuery{
		Group:   pathParam(c, "group"),
		Account: q.text("account", "Account"),
		Order:   q.text("order", "Order"),
		Type:    q.text("type", "Type"),
		Reason:  q.text("reason", "Reason"),
		Since:   q.moment("since", "Since", now),
		Until:   q.moment("until", "Until", now),
		Limit:   q.number("limit", "Limit", defaultLimit),
		Cursor:  q.text("cursor", "Cursor"),
	}
	if !q.check(c, a.validate, want) {
		return
	}
	if a.deps.DeadLetters == nil {
		notHere(c, "streams")
		return
	}
	page, err := a.deps.DeadLetters.List(c.Request.Context(), want.Group, streams.DeadLetterQuery{
		Account: want.Account, OrderRef: want.Order, Type: event.Type(want.Type), Reason: want.Reason,
		Since: want.Since, Until: want.Until, Limit: want.Limit, After: want.Cursor,
	})
	if err != nil {
		a.trouble(c, err)
		return
	}
	list := deadLetterList{DeadLetters: make([]DeadLetter, 0, len(page.DeadLetters)), Cursor: page.Next}
	for i := range page.DeadLetters {
		list.DeadLetters = append(list.DeadLetters, shown(&page.DeadLetters[i]))
	}
	respond(c, http.StatusOK, list)
}

func (a *Admin) showDeadLetter(c *gin.Context) {
	if !newQuery(c).check(c, a.validate, struct{}{}) {
		return
	}
	if a.deps.DeadLetters == nil {
		notHere(c, "streams")
		return
	}
	letter, err := a.deps.DeadLetters.Show(c.Request.Context(), pathParam(c, "group"), pathParam(c, "id"))
	if err != nil {
		a.trouble(c, err)
		return
	}
	detail := DeadLetterDetail{
		DeadLetter: shown(&letter),
		KeyID:      letter.Record.Evidence.KeyID, SignedAt: letter.Record.Evidence.SignedAt,
		BodyBytes: len(letter.Record.Raw),
	}
	if letter.Record.Event.ID != "" {
		detail.Event = impersonal(letter.Record.Event)
	}
	respond(c, http.StatusOK, detail)
}

// shown leaves out what a list has no room for.
func shown(l *streams.DeadLetter) DeadLetter {
	e := &l.Record.Event
	return DeadLetter{
		ID: l.ID, Group: l.Group, Reason: l.Reason, Error: l.Error, Attempts: l.Attempts, DeadAt: l.DeadAt,
		Consumer: l.Consumer, Partition: l.Partition, EntryID: l.EntryID, ReplayOf: l.ReplayOf,
		EventID: e.ID, Type: e.Type, Account: e.Account, OrderRef: e.OrderRef(),
	}
}

// redacted stands where an event says something about a person.
const redacted = "[redacted]"

// impersonal is a copy of an event without what may be about a person: the
// customer's reference and the provider's free text.
func impersonal(e event.Event) *event.Event {
	if e.Merchant.CustomerRef != "" {
		e.Merchant.CustomerRef = redacted
	}
	if e.Payment != nil && e.Payment.Failure != nil && e.Payment.Failure.Message != "" {
		payment, failure := *e.Payment, *e.Payment.Failure
		failure.Message = redacted
		payment.Failure = &failure
		e.Payment = &payment
	}
	return &e
}
