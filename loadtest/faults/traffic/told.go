package traffic

// Told is one line of what a run has sent and was told, as JSON.
type Told struct {
	// Kind is event, again (a redelivery), conflict, forgery or replay (after Redis
	// lost its memory).
	Kind string `json:"kind"`
	// Provider and Account of the callback, ID is the provider's own id.
	Provider string `json:"provider"`
	Account  string `json:"account"`
	ID       string `json:"id"`
	// Order, Customer, Seq, Type and Dollars are the fact.
	Order    string `json:"order"`
	Customer string `json:"customer"`
	Seq      int    `json:"seq"`
	Type     string `json:"type"`
	Dollars  int    `json:"dollars"`
	// Pinned orders told each fact only when the one before was accepted.
	Pinned bool `json:"pinned,omitempty"`
	// Status is the reply's, 0 where none came; OK that it was a success.
	Status int  `json:"status"`
	OK     bool `json:"ok,omitempty"`
}
