package effects_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
	"github.com/paybell/paybell/streams/event"
	"github.com/paybell/paybell/workers"
)

// A group of your own ships each paid order once, however often it is delivered.
func ExampleStore_Handler() {
	dir, err := os.MkdirTemp("", "effects")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	o := effects.DefaultOptions()
	o.SQLite = filepath.Join(dir, "effects.db")
	store, err := effects.Open(ctx, o, effects.Deps{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	if _, err := store.Migrate(ctx); err != nil {
		fmt.Println(err)
		return
	}
	err = store.Update(ctx, func(ctx context.Context, tx *effects.Tx) error {
		_, err := tx.Exec(ctx, `CREATE TABLE parcels (order_ref text NOT NULL)`)
		return err
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	shipping := store.Handler("shipping", func(ctx context.Context, tx *effects.Tx, ds []workers.Delivery) error {
		parcels := effects.NewRows(effects.Text("order_ref"))
		for _, e := range effects.Events(ds) {
			if e.Type == event.PaymentSucceeded && e.MovesMoney() {
				parcels.Add(e.OrderRef())
			}
		}
		_, err := tx.ExecRows(ctx, parcels, `INSERT INTO parcels (order_ref) SELECT order_ref FROM input`)
		return err
	})
	paid := effectstest.Deliveries("shipping", effectstest.Event(1, event.PaymentSucceeded, "A1001", "2019-1", effectstest.CNY(8800)))
	fmt.Println(shipping.HandleBatch(ctx, paid))
	fmt.Println(shipping.HandleBatch(ctx, paid))
	err = store.Query(ctx, func(row effects.Row) error {
		var n int
		err := row.Scan(&n)
		fmt.Println("parcels:", n)
		return err
	}, `SELECT count(*) FROM parcels`)
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// [<nil>]
	// [<nil>]
	// parcels: 1
}
