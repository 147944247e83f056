package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/paybell/paybell/streams"
)

// recentOrders is how many orders the status shows.
const recentOrders = 10

// Status is the answer to /api/v1/status. A part that is nil is one that this
// process does not have, or is named in Unavailable.
type Status struct {
	Version   string    `json:"version"`
	Now       time.Time `json:"now"`
	StartedAt time.Time `json:"started_at"`
	Accounts  []Account `json:"accounts"`
	// Gateway is this process's public door.
	Gateway *GatewayStatus `json:"gateway,omitempty"`
	Redis   *RedisStatus   `json:"redis,omitempty"`
	// Streams has every group with its lag, pending, dead letters and owners.
	Streams *streams.Report `json:"streams,omitempty"`
	// Ledger says where the events of each of our own groups are.
	Ledger map[string]LedgerStatus `json:"ledger,omitempty"`
	// Undecodable is how many events were ever kept, and answered with success, without
	// being understood: nothing was applied. It is there with the streams.
	Undecodable *int64 `json:"undecodable,omitempty"`
	// Journal is what this process's journal holds: accepted = appended + journal.
	Journal *JournalStatus `json:"journal,omitempty"`
	// Paused are this process's groups that wait, and what they wait for.
	Paused map[string][]string `json:"paused,omitempty"`
	// Orders are those changed last; null where this process has no orders.
	Orders []Order `json:"orders"`
	// Unavailable are the parts that did not answer.
	Unavailable []Unavailable `json:"unavailable,omitempty"`
}

// GatewayStatus says whether the public door can keep a callback now.
type GatewayStatus struct {
	Ready bool   `json:"ready"`
	Why   string `json:"why,omitempty"`
}

// LedgerStatus is the account of a group and what it is short of.
type LedgerStatus struct {
	streams.Account
	// Difference is how many events are nowhere, or, below zero, somewhere twice.
	Difference int64 `json:"difference"`
}

// JournalStatus is what a journal holds.
type JournalStatus struct {
	Mode string `json:"mode"`
	// Events are accepted and, in the mode fallback, not in the streams yet.
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"`
}

// RedisStatus says how well Redis keeps what it confirms.
type RedisStatus struct {
	// Level is what a success reply stands for: "fsync" or "redis".
	Level string `json:"level"`
	streams.Durability
}

// Unavailable is a part that did not answer, and why.
type Unavailable struct {
	Part string `json:"part"`
	Why  string `json:"why"`
}

// status asks every source at once: the slowest decides, and none spoils the rest.
func (a *Admin) status(c *gin.Context) {
	if !newQuery(c).check(c, a.validate, struct{}{}) {
		return
	}
	s := Status{
		Version: a.deps.Version, Now: a.deps.Now().UTC(), StartedAt: a.started.UTC(),
		Accounts: append([]Account{}, a.deps.Accounts...),
	}
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	ask := func(part string, read func(ctx context.Context) error) {
		wg.Go(func() {
			if err := contained(c.Request.Context(), read); err != nil {
				mu.Lock()
				defer mu.Unlock()
				s.Unavailable = append(s.Unavailable, Unavailable{part, err.Error()})
			}
		})
	}
	if a.deps.Ready != nil {
		ask("gateway", func(ctx context.Context) error {
			s.Gateway = &GatewayStatus{Ready: true}
			if err := a.deps.Ready(ctx); err != nil {
				s.Gateway = &GatewayStatus{Why: err.Error()}
			}
			return nil
		})
	}
	if a.deps.Durability != nil {
		ask("redis", func(ctx context.Context) error {
			d, err := a.deps.Durability(ctx)
			if err == nil {
				s.Redis = &RedisStatus{Level: d.Level(), Durability: d}
			}
			return err
		})
	}
	if a.deps.Stats != nil {
		ask("streams", func(ctx context.Context) error {
			report, err := a.deps.Stats.Read(ctx)
			if err == nil {
				s.Streams, s.Undecodable = &report, &report.Undecodable
			}
			return err
		})
	}
	if a.deps.Ledger != nil {
		ask("ledger", func(ctx context.Context) error {
			accounts, err := a.deps.Ledger.Read(ctx)
			if err == nil {
				s.Ledger = make(map[string]LedgerStatus, len(accounts))
			}
			for name, account := range accounts {
				s.Ledger[name] = LedgerStatus{account, account.Difference()}
			}
			return err
		})
	}
	if a.deps.Journal != nil {
		j := a.deps.Journal()
		s.Journal = &j
	}
	if a.deps.Paused != nil {
		s.Paused = a.deps.Paused()
	}
	if a.deps.Orders != nil {
		ask("orders", func(ctx context.Context) (err error) {
			s.Orders, err = a.orders(ctx, OrderQuery{Limit: recentOrders})
			return err
		})
	}
	wg.Wait()
	slices.SortFunc(s.Unavailable, func(x, y Unavailable) int { return cmp.Compare(x.Part, y.Part) })
	respond(c, http.StatusOK, s)
}

// contained turns a panic into an error: net/http contains those of a request's
// own goroutine, and no others.
func contained(ctx context.Context, read func(ctx context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %T", ErrPanic, v)
		}
	}()
	return read(ctx)
}
