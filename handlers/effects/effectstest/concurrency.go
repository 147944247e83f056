package effectstest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/workers"
)

// replacedOwner is the owner that was frozen longer than its lease, and wakes up
// after another one has begun.
func replacedOwner(t *testing.T, o effects.Options) {
	s := open(t, o)
	ds := orders(6, 2)
	for i := range ds {
		ds[i].Epoch = 7
		ds[i].Partition = i % 2
	}
	h := s.Handler(group, tally)
	wantNil(t, h.HandleBatch(t.Context(), ds[:2]))

	newer := slices.Clone(ds[2:3])
	newer[0].Epoch = 8 // Partition 0 has a new owner.
	wantNil(t, h.HandleBatch(t.Context(), newer))

	out := h.HandleBatch(t.Context(), ds)
	for i, err := range out {
		switch {
		case ds[i].Partition == 1 && err != nil:
			t.Errorf("outcome %d in the partition that kept its owner = %v, want nil", i, err)
		case ds[i].Partition == 0 && i < 6 && !errors.Is(err, effects.ErrStaleOwner):
			t.Errorf("outcome %d of the replaced owner = %v, want stale owner", i, err)
		case ds[i].Partition == 0 && i < 6:
			if seen, ok := errors.AsType[*workers.ReplacedError](err); !ok || seen.Epoch != 8 {
				t.Errorf("outcome %d of the replaced owner = %v, want the epoch 8 in it", i, err)
			}
		case ds[i].Partition == 0 && i >= 6 && !errors.Is(err, workers.ErrHeld):
			t.Errorf("outcome %d behind it = %v, want held", i, err)
		}
	}
	if got := total(t, s); got != 8 {
		t.Errorf("%d effects, want 8: the replaced owner made some", got)
	}
	for i := range ds {
		ds[i].Epoch = 8
	}
	wantNil(t, h.HandleBatch(t.Context(), ds))
	wantOnce(t, s, ds)
}

// settleAll hands deliveries over again, as a worker does, until all are settled.
func settleAll(ctx context.Context, h workers.BatchHandler, ds []workers.Delivery) error {
	for rounds := 0; len(ds) > 0; rounds++ {
		out := h.HandleBatch(ctx, ds)
		var left []workers.Delivery
		for i := range ds {
			if out[i] != nil {
				left = append(left, ds[i])
			}
		}
		ds = left
		if rounds == 1000 {
			return errors.Join(out...)
		}
	}
	return nil
}

// twoOwners hands the same batches to two stores at the same time.
func twoOwners(t *testing.T, o effects.Options) {
	stores := []*effects.Store{open(t, o), Open(t, o, effects.Deps{})}
	ds := orders(40, 5)
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			h := s.Handler(group, tally)
			for from := 0; from < len(ds); from += 25 {
				if err := settleAll(t.Context(), h, ds[from:from+25]); err != nil {
					t.Errorf("settle: %v", err)
				}
			}
		})
	}
	wg.Wait()
	wantOnce(t, stores[0], ds)
}

// crosswise makes transactions lock the rows of two orders in opposite order, so
// that the database has to end some of them.
func crosswise(t *testing.T, o effects.Options) {
	s := open(t, o)
	err := s.Update(t.Context(), func(ctx context.Context, tx *effects.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE TABLE counters (order_key text PRIMARY KEY, n integer NOT NULL)`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO counters (order_key, n) VALUES ('a', 0), ('b', 0)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const each = 20
	var wg sync.WaitGroup
	for worker, path := range [][]string{{"a", "b"}, {"b", "a"}, {"a", "b"}, {"b", "a"}} {
		ds := orders(4*each, 1)[worker*each : (worker+1)*each]
		for i := range ds {
			ds[i].Partition = worker
		}
		apply := func(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
			for _, key := range path {
				if _, err := tx.Exec(ctx, `UPDATE counters SET n = n + $1 WHERE order_key = $2`, len(ds), key); err != nil {
					return err
				}
			}
			return tally(ctx, tx, ds)
		}
		wg.Go(func() {
			for i := range ds {
				if err := settleAll(t.Context(), s.Handler(group, apply), ds[i:i+1]); err != nil {
					t.Errorf("settle: %v", err)
				}
			}
		})
	}
	wg.Wait()
	wantOnce(t, s, orders(4*each, 1))
	err = s.Query(t.Context(), func(row effects.Row) error {
		var n int
		if err := row.Scan(&n); err != nil {
			return err
		}
		if n != 4*each {
			t.Errorf("a counter stands at %d, want %d", n, 4*each)
		}
		return nil
	}, `SELECT n FROM counters`)
	if err != nil {
		t.Fatal(err)
	}
}
