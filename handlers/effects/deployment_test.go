package effects_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/handlers/effects/effectstest"
)

func TestOneDeploymentClaimsADatabase(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		const processes = 4
		var owners [processes]string
		var own [processes]effects.Ownership
		var wg sync.WaitGroup
		for i := range processes {
			wg.Go(func() {
				var err error
				if own[i], err = s.Ownership(t.Context()); err != nil {
					t.Error(err)
				}
				if owners[i], err = s.Claim(t.Context(), fmt.Sprint("deployment-", i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for i := range processes {
			if owners[i] != owners[0] || own[i].Database != own[0].Database || owners[0] == "" || own[0].Database == "" {
				t.Errorf("process %d: owner %q, database %q; the first: %q, %q", i, owners[i], own[i].Database, owners[0], own[0].Database)
			}
		}
		if err := s.Move(t.Context(), "another"); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Ownership(t.Context()); err != nil || got != (effects.Ownership{Database: own[0].Database, Deployment: "another"}) {
			t.Errorf("after a move: %+v, %v", got, err)
		}
	})
}

// TestSchemaOfALaterBuildIsRefused: a build that the schema has left behind must not
// write to it. One that is a version behind may, while a deployment rolls.
func TestSchemaOfALaterBuildIsRefused(t *testing.T) {
	effectstest.Each(t, func(t *testing.T, s *effects.Store) {
		if err := s.CheckMigrated(t.Context()); err != nil {
			t.Fatal(err)
		}
		all, err := s.MigrationStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		newest := all[len(all)-1].Version
		for oldest, want := range map[int64]error{newest: nil, newest + 1: effects.ErrNewerSchema} {
			err := s.Update(t.Context(), func(_ context.Context, tx *effects.Tx) error {
				in := effects.NewRows(effects.Integer("oldest"))
				in.Add(oldest)
				tx.Queue(in, `UPDATE deployment SET oldest_schema = (SELECT oldest FROM input)`)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.CheckMigrated(t.Context()); !errors.Is(err, want) {
				t.Errorf("the oldest is to know %d, this build knows %d: %v", oldest, newest, err)
			}
		}
	})
}
