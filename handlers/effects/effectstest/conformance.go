package effectstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

const group = "tally"

// Conformance is what every database has to pass. Make returns the options of an
// empty one.
func Conformance(t *testing.T, make func(testing.TB) effects.Options) {
	for _, c := range []struct {
		name string
		test func(*testing.T, effects.Options)
	}{
		{"G4 once however often it is delivered", onceHoweverOften},
		{"G4 once when it stands twice in a batch", onceInABatch},
		{"G4 once for each group", onceForEachGroup},
		{"G3 other facts under one id have no effect", otherFacts},
		{"G5 a failing event stops its order alone", failingEvent},
		{"G7 a panicking event is found alone", panickingEvent},
		{"G4 key and effect stand or fall together", stopAtEveryStep},
		{"G4 a process killed at any step", killAtEveryStep},
		{"G5 a replaced owner is refused", replacedOwner},
		{"G4 two owners at once", twoOwners},
		{"G4 orders locked crosswise", crosswise},
		{"an ended context leaves nothing", endedContext},
		{"no schema is nobody's fault", noSchema},
		{"a declared race is run again", declaredRace},
		{"migrations by several processes", migrations},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, make(t)) })
	}
}

// open opens a migrated store with a tally.
func open(t *testing.T, o effects.Options) *effects.Store {
	t.Helper()
	s := Open(t, o, effects.Deps{})
	newTally(t, s)
	return s
}

// orders returns the deliveries of n orders with so many events each, the orders
// taking turns.
func orders(n, events int) []workers.Delivery {
	var out []event.Event
	for e := range events {
		for o := range n {
			out = append(out, Event(o*events+e+1, event.PaymentSucceeded, fmt.Sprintf("A%03d", o), fmt.Sprintf("ref%d", o), CNY(100)))
		}
	}
	return Deliveries(group, out...)
}

func onceHoweverOften(t *testing.T, o effects.Options) {
	s := open(t, o)
	ds := orders(20, 5)
	h := s.Handler(group, tally)
	wantNil(t, h.HandleBatch(t.Context(), ds[:30]))
	wantNil(t, h.HandleBatch(t.Context(), ds[10:]))
	wantNil(t, h.HandleBatch(t.Context(), ds))
	wantOnce(t, s, ds)
	if got := keys(t, s); got != len(ds) {
		t.Errorf("%d dedup keys, want %d", got, len(ds))
	}
	wantNil(t, h.HandleBatch(t.Context(), nil))
}

func onceInABatch(t *testing.T, o effects.Options) {
	s := open(t, o)
	ds := orders(3, 2)
	wantNil(t, s.Handler(group, tally).HandleBatch(t.Context(), slices.Concat(ds, ds)))
	wantOnce(t, s, ds)
}

func onceForEachGroup(t *testing.T, o effects.Options) {
	s := open(t, o)
	for _, g := range []string{"orderstatus", "points"} {
		ds := orders(3, 2)
		for i := range ds {
			ds[i].Group = g
		}
		wantNil(t, s.Handler(g, tally).HandleBatch(t.Context(), ds))
		wantOnce(t, s, ds)
	}
}

func otherFacts(t *testing.T, o effects.Options) {
	reg := prometheus.NewPedanticRegistry()
	s := Open(t, o, effects.Deps{Registerer: reg})
	newTally(t, s)
	ds := orders(2, 1)
	first, neighbour := ds[0], ds[1]
	other := first
	other.Event = Event(1, event.PaymentSucceeded, "A000", "ref0", CNY(999))
	other.EntryID = "9-0"
	elsewhere := first
	elsewhere.Event = Event(1, event.PaymentSucceeded, "B777", "ref7", CNY(100))

	var kept []string
	keep := func(_ context.Context, tx *effects.Tx, ds []workers.Delivery) error {
		tx.OnCommit(func() {
			for i := range ds {
				kept = append(kept, ds[i].Event.Payment.OrderRef+" "+ds[i].Event.Payment.Amount.Value)
			}
		})
		return nil
	}
	h := s.Handler(group, tally, effects.WithConflicts(keep))
	wantNil(t, h.HandleBatch(t.Context(), []workers.Delivery{first, other, neighbour, other}))
	wantNil(t, h.HandleBatch(t.Context(), []workers.Delivery{other, elsewhere}))
	wantOnce(t, s, ds)
	if want := []string{"A000 9.99", "B777 1.00"}; !slices.Equal(kept, want) {
		t.Errorf("conflicts handed over = %q, want %q", kept, want)
	}
	if got := count(t, s, `SELECT count(*) FROM effect_conflicts WHERE grp = $1 AND event_id = $2 AND kept_facts = $3`,
		group, first.Event.ID, first.Event.Facts().String()); got != 2 {
		t.Errorf("%d conflicts recorded, want 2", got)
	}
	if got := Counted(t, reg, "paybell_effects_conflicts_total"); got != 2 {
		t.Errorf("%v conflicts counted, want 2", got)
	}
}

// errBad is what the suite's events fail with.
var errBad = errors.New("effectstest: this event fails")

// failing is a tally that returns, or panics, when it is given one of the events.
func failing(how func(), ids ...string) effects.Apply {
	return func(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
		for i := range ds {
			if slices.Contains(ids, ds[i].Event.ID) {
				// The effects before it are made first, so that a failure that does not
				// roll back is seen.
				if err := tally(ctx, tx, ds[:i+1]); err != nil {
					return err
				}
				if how != nil {
					how()
				}
				return errBad
			}
		}
		return tally(ctx, tx, ds)
	}
}

func failingEvent(t *testing.T, o effects.Options) {
	s := open(t, o)
	ds := orders(20, 3)
	// Of order A007 the second event fails, of A013 the first.
	bad := []string{"evt_00000023", "evt_00000040"}
	out := s.Handler(group, failing(nil, bad...)).HandleBatch(t.Context(), ds)
	for i := range ds {
		switch id := ds[i].Event.ID; id {
		case bad[0], bad[1]:
			if !errors.Is(out[i], errBad) {
				t.Errorf("outcome of %s = %v, want its own error", id, out[i])
			}
		case "evt_00000024", "evt_00000041", "evt_00000042":
			if !errors.Is(out[i], workers.ErrHeld) {
				t.Errorf("outcome of %s behind a failed one = %v, want held", id, out[i])
			}
		default:
			if out[i] != nil {
				t.Errorf("outcome of %s = %v, want nil", id, out[i])
			}
		}
	}
	if got, want := total(t, s), len(ds)-5; got != want || keys(t, s) != want {
		t.Errorf("%d effects and %d keys, want %d of both", got, keys(t, s), want)
	}
	wantNil(t, s.Handler(group, tally).HandleBatch(t.Context(), ds))
	wantOnce(t, s, ds)
}

func panickingEvent(t *testing.T, o effects.Options) {
	s := open(t, o)
	ds := orders(9, 2)
	out := s.Handler(group, failing(func() { panic("boom") }, ds[4].Event.ID)).HandleBatch(t.Context(), ds)
	for i := range out {
		var p *workers.PanicError
		switch {
		case i == 4 && !errors.As(out[i], &p):
			t.Errorf("outcome of the panicking event = %v, want a PanicError", out[i])
		case i == 13 && !errors.Is(out[i], workers.ErrHeld):
			t.Errorf("outcome behind the panicking event = %v, want held", out[i])
		case i != 4 && i != 13 && out[i] != nil:
			t.Errorf("outcome of neighbour %d = %v, want nil", i, out[i])
		}
	}
	if got := total(t, s); got != len(ds)-2 {
		t.Errorf("%d effects, want %d", got, len(ds)-2)
	}
}

func endedContext(t *testing.T, o effects.Options) {
	s := open(t, o)
	ds := orders(3, 2)
	ctx, cancel := context.WithCancel(t.Context())
	late := func(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
		err := tally(ctx, tx, ds)
		cancel()
		return err
	}
	for i, err := range s.Handler(group, late).HandleBatch(ctx, ds) {
		if i < 3 && !errors.Is(err, context.Canceled) || i >= 3 && !errors.Is(err, workers.ErrHeld) {
			t.Errorf("outcome %d = %v, want canceled or held", i, err)
		}
	}
	if got := total(t, s) + keys(t, s); got != 0 {
		t.Errorf("%d effects and keys, want none", got)
	}
	wantNil(t, s.Handler(group, tally).HandleBatch(t.Context(), ds))
	wantOnce(t, s, ds)
}

func noSchema(t *testing.T, o effects.Options) {
	s, err := effects.Open(t.Context(), o, effects.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, err := range s.Handler(group, tally).HandleBatch(t.Context(), orders(2, 2)) {
		if i < 2 && !workers.IsUnavailable(err) || i >= 2 && !errors.Is(err, workers.ErrHeld) {
			t.Errorf("outcome %d = %v, want unavailable or held", i, err)
		}
	}
}

func declaredRace(t *testing.T, o effects.Options) {
	s := open(t, o)
	ds := orders(3, 2)
	lost := 0
	apply := func(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
		if err := tally(ctx, tx, ds); err != nil {
			return err
		}
		if lost++; lost <= 3 {
			return fmt.Errorf("row taken: %w", effects.ErrRace)
		}
		return nil
	}
	wantNil(t, s.Handler(group, apply).HandleBatch(t.Context(), ds))
	wantOnce(t, s, ds)

	always := func(context.Context, *effects.Tx, []workers.Delivery) error { return effects.ErrRace }
	again := orders(4, 2)[6:]
	for i, err := range s.Handler(group, always).HandleBatch(t.Context(), again[1:]) {
		if !errors.Is(err, effects.ErrRace) || workers.IsUnavailable(err) {
			t.Errorf("outcome %d of a race lost for ever = %v, want the race, charged", i, err)
		}
	}
	// A stop that falls into the pause before the next run is no success.
	ctx, cancel := context.WithCancel(t.Context())
	stopped := func(context.Context, *effects.Tx, []workers.Delivery) error {
		cancel()
		return effects.ErrRace
	}
	if out := s.Handler(group, stopped).HandleBatch(ctx, again[1:]); out[0] == nil {
		t.Error("an event was settled although its transaction was never run again")
	}
}

func migrations(t *testing.T, o effects.Options) {
	stores := make([]*effects.Store, 4)
	for i := range stores {
		s, err := effects.Open(t.Context(), o, effects.Deps{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		stores[i] = s
	}
	errs := make(chan error)
	for _, s := range stores {
		go func() {
			_, err := s.Migrate(t.Context())
			errs <- err
		}()
	}
	for range stores {
		if err := <-errs; err != nil {
			t.Errorf("migrate: %v", err)
		}
	}
	applied, err := stores[0].Migrate(t.Context())
	if err != nil || len(applied) != 0 {
		t.Errorf("migrating again applied %v, %v", applied, err)
	}
	status, err := stores[0].MigrationStatus(t.Context())
	if err != nil || len(status) == 0 {
		t.Fatalf("status = %v, %v", status, err)
	}
	for _, m := range status {
		if m.Pending() {
			t.Errorf("migration %s is pending", m.Name)
		}
	}
}
