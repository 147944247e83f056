// Package judge says whether paybell kept its promises in a fault run. It shares no
// code with paybell: it reads what the senders were told, what SQL and Redis hold, and
// what a reader of the streams saw, by what the documents say about them.
package judge

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Options are what a judgement is made from.
type Options struct {
	// Told are the lines of the traffic.
	Told io.Reader
	// SQL holds the effects; Redis the streams, under Prefix.
	SQL    *sql.DB
	Redis  *redis.Client
	Prefix string
	// Tap has read the streams.
	Tap *Tap
	// Destroyed are the event ids whose entries were deleted by hand.
	Destroyed []string
	// Admitted are processes that had to be refused and were not, in words.
	Admitted []string
	// Poisoned is in the references of orders that must end as dead letters of the
	// group points, FirstOnly in those of which only payment.pending must, Forged in
	// those that nobody signed.
	Poisoned, FirstOnly, Forged string
	// AfterFlush: Redis has lost its memory, and its dead letters with it.
	AfterFlush bool
}

// Verdict is what came out. The lists name what they count.
type Verdict struct {
	// ComeAgain are the callbacks whose reply asked for them again.
	Sent, Forged, Accepted, ComeAgain, Events int
	Lost, Twice, OutOfOrder                   []string
	ForgedAccepted                            []string
	DeadExpected, DeadFound                   int
	// Ledger says what LedgerDifference is made of.
	LedgerDifference int64
	Ledger           []string
	// Other are things that none of the rows has.
	Other []string
}

// OK reports whether every promise was kept.
func (v *Verdict) OK() bool {
	return len(v.Lost)+len(v.Twice)+len(v.OutOfOrder)+len(v.ForgedAccepted)+len(v.Other) == 0 && v.LedgerDifference == 0
}

// Add puts to a verdict what a later one of the same run has found.
func (v *Verdict) Add(later *Verdict) {
	v.Sent, v.Forged, v.Accepted, v.ComeAgain, v.Events = later.Sent, later.Forged, later.Accepted, later.ComeAgain, later.Events
	for _, list := range []struct {
		to   *[]string
		from []string
	}{
		{&v.Lost, later.Lost},
		{&v.Twice, later.Twice},
		{&v.OutOfOrder, later.OutOfOrder},
		{&v.ForgedAccepted, later.ForgedAccepted},
		{&v.Other, later.Other},
		{&v.Ledger, later.Ledger},
	} {
		// What is wrong in SQL still is the second time.
		known := map[string]bool{}
		for _, text := range *list.to {
			known[text] = true
		}
		for _, text := range list.from {
			if !known[text] {
				*list.to = append(*list.to, text)
			}
		}
	}
	v.LedgerDifference += later.LedgerDifference
}

// told is a line of the traffic, as far as the judge reads it.
type told struct {
	Kind, Provider, Account, ID, Order, Customer, Type string
	Seq, Dollars, Status                               int
	Pinned, OK                                         bool
}

// fact is one thing that happened to an order, by the id that paybell gives it.
type fact struct {
	told
	event string
}

// Judge judges.
func Judge(ctx context.Context, o Options) (Verdict, error) {
	c := &court{Options: o, facts: map[string]*fact{}, orders: map[string][]*fact{}, conflicts: map[string]bool{}}
	for _, step := range []func(context.Context) error{c.readTold, c.readEffects, c.judgeStream, c.judgeOrders, c.judgePoints, c.judgeForgeries, c.judgeDead, c.judgeLedger} {
		if err := step(ctx); err != nil {
			return Verdict{}, fmt.Errorf("judge: %w", err)
		}
	}
	for _, what := range c.Admitted {
		c.other("a process was not refused: %s", what)
	}
	return c.verdict, nil
}

// court is a judgement on its way.
type court struct {
	Options
	verdict Verdict
	// facts are what was accepted, by event id; orders the same by order reference.
	facts  map[string]*fact
	orders map[string][]*fact
	// conflicts are the events that were told again with other facts, and accepted.
	conflicts map[string]bool
	// effects are the dedup keys there are, "group event".
	effects map[string]bool
	// missing are the effects that the events of entries deleted by hand never had.
	missing int64
}

// unmapped is the type of what is authentic, and nothing that is known.
const unmapped = "unmapped"

// eventID is docs/event.md, "Identity": the digest of provider, account and the provider's
// own id.
func eventID(provider, account, id string) string {
	sum := sha256.Sum256([]byte(provider + "\x1f" + account + "\x1f" + id))
	return "evt_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:26]
}

func (c *court) readTold(context.Context) error {
	lines := json.NewDecoder(c.Told)
	for {
		var t told
		err := lines.Decode(&t)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("what was told: %w", err)
		}
		c.verdict.Sent++
		switch {
		case t.Kind == "forgery":
			c.verdict.Forged++
			if t.OK {
				c.verdict.ForgedAccepted = append(c.verdict.ForgedAccepted, "replied success to "+t.ID)
			}
			continue
		case t.OK:
		case t.Status >= 500 || t.Status == http.StatusTooManyRequests || t.Status == http.StatusRequestTimeout:
			c.verdict.ComeAgain++
			continue
		case t.Status != 0: // the provider would give up what is true
			c.other("the reply to %s was %d", t.ID, t.Status)
			continue
		default:
			continue
		}
		c.verdict.Accepted++
		id := eventID(t.Provider, t.Account, t.ID)
		if t.Kind == "conflict" {
			c.conflicts[id] = true
			continue // the fact that came first counts
		}
		if c.facts[id] == nil {
			f := &fact{t, id}
			c.facts[id] = f
			if t.Type != unmapped { // says nothing of its order
				c.orders[t.Order] = append(c.orders[t.Order], f)
			}
		}
	}
	c.verdict.Events = len(c.facts)
	return nil
}

// destroyed reports whether a group may be without an event, or an order without its
// effect: its entry was deleted by hand.
func (c *court) destroyed(event string) bool { return slices.Contains(c.Destroyed, event) }

func (c *court) lost(format string, args ...any) {
	c.verdict.Lost = append(c.verdict.Lost, fmt.Sprintf(format, args...))
}

func (c *court) other(format string, args ...any) {
	c.verdict.Other = append(c.verdict.Other, fmt.Sprintf(format, args...))
}

// rows runs a query.
func rows(ctx context.Context, db *sql.DB, query string, each func(scan func(...any) error) error) error {
	r, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer r.Close()
	for r.Next() {
		if err := each(r.Scan); err != nil {
			return err
		}
	}
	return r.Err()
}
