// Package event is the canonical event: what a verified callback says, in one
// shape for every provider. It knows nothing of HTTP, Redis or SQL and uses the
// standard library alone. An Event is immutable once it has been appended:
// copy it before you change it.
package event

import (
	"log/slog"
	"strings"
	"time"
)

// Schema is the version of the wire form of an event. It changes only when a
// reader of the old form would be misled; new members do not change it.
const Schema = "payment-event/1"

// Event is one fact told by a provider. Unknown text is "", an unknown time is
// the zero time, an unknown amount is nil: never a guess. On the wire all of
// these are left out.
type Event struct {
	Schema string `json:"schema"`
	// ID is deterministic (see NewID): a resend of the same fact has the same ID.
	ID   string `json:"event_id"`
	Type Type   `json:"type"`
	// ConflictOf is the ID this callback carried when other facts were already
	// known under it; Type is then Conflict and ID is the conflict's own.
	ConflictOf string `json:"conflict_of,omitempty"`
	// Account is the configured instance of the provider; it scopes every ID.
	Account string `json:"account"`
	// Namespace is shared by the accounts that sell the same orders.
	Namespace string `json:"namespace"`
	Provider  string `json:"provider"`
	// Live is false for sandbox traffic and nil when the provider does not say.
	Live *bool `json:"live,omitempty"`
	// OccurredAt is the provider's time of the fact, UTC, at most milliseconds.
	OccurredAt time.Time `json:"occurred_at,omitzero"`
	// ReceivedAt is when the gateway had read the callback, UTC, milliseconds.
	ReceivedAt    time.Time     `json:"received_at"`
	ProviderEvent ProviderEvent `json:"provider_event"`
	Merchant      Merchant      `json:"merchant,omitzero"`
	Payment       *Payment      `json:"payment,omitempty"`
	Refund        *Refund       `json:"refund,omitempty"`
	Dispute       *Dispute      `json:"dispute,omitempty"`
	Stock         *Stock        `json:"stock,omitempty"`
	// LeftOut names the fields (LeftOutCustomerRef and so on) that the callback held and
	// that could not be read. None of them decides a type, an amount that counts, an
	// order or an identity: those make the whole callback unmapped.
	LeftOut      []string     `json:"left_out,omitempty"`
	Authenticity Authenticity `json:"authenticity"`
	Completeness Completeness `json:"completeness"`
	Raw          Raw          `json:"raw"`
}

// ProviderEvent keeps the provider's own identity and words.
type ProviderEvent struct {
	ID string `json:"id,omitempty"`
	// IDAuthenticated says whether the signature covers ID.
	IDAuthenticated bool `json:"id_authenticated"`
	// Type is the provider's vocabulary, never translated.
	Type string `json:"type,omitempty"`
	// Sequence is the provider's version or ordinal of the object, when it has one.
	Sequence *int64 `json:"sequence,omitempty"`
}

// Merchant is the merchant as the provider names it.
type Merchant struct {
	Account string `json:"account,omitempty"`
	App     string `json:"app,omitempty"`
	// CustomerRef is the merchant's own opaque customer reference, taken from the
	// place the account's configuration names.
	CustomerRef string `json:"customer_ref,omitempty"`
}

// Payment is the payment the event speaks of. References are byte for byte as
// the provider sent them.
type Payment struct {
	OrderRef string `json:"order_ref,omitempty"`
	// ProviderRef is the provider's id of the payment. It names the capture when
	// an order is folded, so every event about one capture must carry the same.
	ProviderRef string `json:"provider_ref,omitempty"`
	// ParentRef is the ProviderRef of the original payment, on events about a
	// refund, capture or dispute of it.
	ParentRef string `json:"parent_ref,omitempty"`
	// RelatedRefs are other names the provider has for the same payment, such as the
	// payment intent of an invoice. What is told under any of them is of one payment.
	RelatedRefs []string `json:"related_refs,omitempty"`
	Method      string   `json:"method,omitempty"`
	Amount      *Money   `json:"amount,omitempty"`
	// Captured and RefundedTotal are cumulative totals, where the provider sends
	// totals instead of single amounts.
	Captured      *Money   `json:"captured,omitempty"`
	RefundedTotal *Money   `json:"refunded_total,omitempty"`
	Failure       *Failure `json:"failure,omitempty"`
	// Final says that the provider will never change this state again.
	Final bool `json:"final,omitempty"`
}

// Failure is why a payment attempt failed, in the provider's words.
type Failure struct {
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// Refund is one refund. Amount is of this refund alone; nil when the provider
// sends only a cumulative total (then Payment.RefundedTotal is set).
type Refund struct {
	OrderRef    string `json:"order_ref,omitempty"`
	ProviderRef string `json:"provider_ref,omitempty"`
	Amount      *Money `json:"amount,omitempty"`
}

// Dispute is one chargeback or inquiry.
type Dispute struct {
	ProviderRef string    `json:"provider_ref,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Amount      *Money    `json:"amount,omitempty"`
	DueBy       time.Time `json:"due_by,omitzero"`
}

// Stock is what a stock.changed event of the merchant's own systems says.
type Stock struct {
	SKU string `json:"sku"`
	// Available is what is left, Change what was added or taken; nil when not said.
	Available *int64 `json:"available,omitempty"`
	Change    *int64 `json:"change,omitempty"`
}

// Authenticity says what the provider's proof covers.
type Authenticity string

// What a proof may cover, strongest first.
const (
	Signature        Authenticity = "signature"
	SignaturePartial Authenticity = "signature-partial"
	Token            Authenticity = "token"
	DecryptOnly      Authenticity = "decrypt-only"
	Unverified       Authenticity = "unverified-reference"
)

// Completeness says whether the event can be acted on without asking the provider.
type Completeness string

// An event either says everything or names what has to be fetched.
const (
	Full       Completeness = "full"
	NeedsFetch Completeness = "needs-fetch"
)

// Fields that may be left out, by their path in an event.
const (
	LeftOutCustomerRef    = "merchant.customer_ref"
	LeftOutMethod         = "payment.method"
	LeftOutAmount         = "payment.amount"
	LeftOutFailure        = "payment.failure"
	LeftOutRefundOrderRef = "refund.order_ref"
	LeftOutRefundAmount   = "refund.amount"
	LeftOutDisputeAmount  = "dispute.amount"
	LeftOutDisputeReason  = "dispute.reason"
	LeftOutOccurredAt     = "occurred_at"
)

// isReference reports whether a field that was left out names something: what it
// names is missing from the order then.
func isReference(field string) bool { return strings.HasSuffix(field, "_ref") }

// Raw points from the event to the callback it came from.
type Raw struct {
	CallbackID string `json:"callback_id"`
	// SHA256 is the lower-case hex digest of the callback's raw body.
	SHA256 string `json:"sha256"`
	// Index is the event's position in a callback with many events.
	Index int `json:"index"`
}

// OrderRef is the merchant's reference of the order the event is about, or "".
func (e *Event) OrderRef() string {
	if e.Payment != nil {
		return e.Payment.OrderRef
	}
	return ""
}

// OrderingKey names what the event must stay in order with: within a group,
// events with one key are applied one after another. It is the order reference
// the callback carries; failing that the provider's reference of the original
// payment, so that a refund without an order reference follows its payment's
// other such events; failing that the event itself. It is always valid UTF-8.
func (e *Event) OrderingKey() string {
	kind, ref := e.ordering()
	return validText(e.Namespace + kind + ref)
}

// appendOrderingKey appends the ordering key, as valid as the event's own texts.
func (e *Event) appendOrderingKey(b []byte) []byte {
	kind, ref := e.ordering()
	return append(append(append(b, e.Namespace...), kind...), ref...)
}

// ordering is what stands in the ordering key behind the namespace.
func (e *Event) ordering() (kind, ref string) {
	if p := e.Payment; p != nil {
		switch {
		case p.OrderRef != "":
			return "/order/", p.OrderRef
		case p.ParentRef != "":
			return "/ref/", p.ParentRef
		case p.ProviderRef != "":
			return "/ref/", p.ProviderRef
		}
	}
	if e.Stock != nil && e.Stock.SKU != "" {
		return "/sku/", e.Stock.SKU
	}
	return "/event/", e.ID
}

// MovesMoney reports whether the event may change an order or a points balance:
// only what is authenticated and complete does.
func (e *Event) MovesMoney() bool {
	return e.Completeness == Full && (e.Authenticity == Signature || e.Authenticity == Token) && e.Type.Folds()
}

// NewUndecodable returns what an authentic callback that its provider cannot decode is
// kept as. It claims no more of the proof than that there was one.
func NewUndecodable() Event {
	return Event{Type: Unmapped, Authenticity: SignaturePartial, Completeness: NeedsFetch}
}

// Undecodable reports whether the event is one that NewUndecodable began. What else is
// of type Unmapped was understood: its provider named it.
func (e *Event) Undecodable() bool {
	return e.Type == Unmapped && e.Authenticity == SignaturePartial && e.Completeness == NeedsFetch &&
		e.ProviderEvent == ProviderEvent{} && e.Payment == nil && e.Refund == nil && e.Dispute == nil && e.Stock == nil
}

// LogValue implements slog.LogValuer with the parts that hold no personal data.
// Customer references, failure texts and amounts are left out.
func (e Event) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("event_id", e.ID),
		slog.String("type", string(e.Type)),
		slog.String("account", e.Account),
		slog.String("provider", e.Provider),
		slog.String("order_ref", e.OrderRef()),
		slog.String("callback_id", e.Raw.CallbackID),
	)
}
