package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/paybell/paybell/configs"
	"github.com/paybell/paybell/gateway"
	"github.com/paybell/paybell/handlers/effects"
	"github.com/paybell/paybell/streams"
)

// identify sees to it that Redis, the database and the journal of this process are of
// one deployment before anything is moved from one to the other. A ConfigError says that
// they are not. What is away is asked again, and identified closes when all have answered.
func (a *App) identify(ctx context.Context, store *effects.Store) error {
	a.identified = make(chan struct{})
	accounts := a.accounts // Reload changes nothing that is compared
	try := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		if store != nil {
			if err := checkMigrated(ctx, store); err != nil { // it may have been away when the process started
				return err
			}
		}
		if a.embedded { // an engine that begins anew each time is nobody's for long
			return compareAccounts(ctx, accounts, store, nil, a.layout)
		}
		if err := a.compare(ctx, store); err != nil {
			return err
		}
		return compareAccounts(ctx, accounts, store, a.redis, a.layout)
	}
	a.agree = try
	err := a.databaseAway // which has just been asked, and may hang
	if err == nil {
		err = try(ctx)
	}
	if err == nil {
		close(a.identified)
		return nil
	}
	if mismatch(err) {
		return &ConfigError{err}
	}
	a.waits.Store(&err)
	a.log.Warn("it is not known yet whether redis, database and journal are of one deployment", "err", err)
	a.add("deployment", func(ctx context.Context) error { return a.awaitIdentity(ctx, try, err) })
	return nil
}

// mismatch reports whether waiting cures nothing.
func mismatch(err error) bool {
	return errors.Is(err, streams.ErrLayout) || errors.Is(err, streams.ErrDeployment) || errors.Is(err, errAccount)
}

// awaitIdentity asks every second until all have answered and are of one deployment, and
// tells why not whenever that changes. That they are not may come out late, and does not
// end a door that keeps callbacks.
func (a *App) awaitIdentity(ctx context.Context, try func(context.Context) error, told error) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		err := try(ctx)
		if err == nil {
			a.waits.Store(nil)
			close(a.identified)
			<-ctx.Done()
			return nil
		}
		if wrong := effects.Misconfigured(err); wrong != nil {
			err = wrong
		}
		if ctx.Err() != nil || err.Error() == told.Error() {
			continue
		}
		told = err
		a.waits.Store(&err)
		if mismatch(err) {
			a.log.Error("redis, database, journal and configuration are not of one deployment: workers do not start", "err", err)
		} else {
			a.log.Warn("workers wait to know whether redis, database and journal are of one deployment", "err", err)
		}
	}
}

// paused tells which groups wait for something, and for what. Before it is known whose
// everything is, none runs.
func (a *App) paused() map[string][]string {
	out := a.pool.Paused()
	if why := a.waits.Load(); why != nil {
		for _, g := range a.enabledGroups() {
			out[g.name] = append(out[g.name], "deployment: "+(*why).Error())
		}
	}
	return out
}

// whenIdentified holds a part back until then.
func (a *App) whenIdentified(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-a.identified:
			return run(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// compare learns the deployment's id of each, gives it to those that have none, and
// returns an error where two differ. The journal is first: it is emptied into whatever
// Redis is connected to.
func (a *App) compare(ctx context.Context, store *effects.Store) error {
	mark := journalMark(a.cfg.Journal)
	if a.keeper != nil {
		if err := expectMark(a.deployment, mark); err != nil {
			return err
		}
	}
	var owner effects.Ownership
	if store != nil {
		var err error
		if owner, err = store.Ownership(ctx); err != nil {
			return err
		}
		if err := expect(a.deployment, owner.Deployment, "the database holds the second: name its own Redis and prefix, or give it to this one by paybell deployment move"); err != nil {
			return err
		}
	}
	if err := a.deployment.Establish(ctx, a.redis); err != nil {
		return err
	}
	if store != nil {
		if err := a.claim(ctx, store, owner); err != nil {
			return err
		}
	}
	if a.keeper != nil {
		if err := writeMark(mark, a.deployment.ID()); err != nil { // which is no reason to hold workers up
			a.log.Error("the journal cannot be marked as this deployment's", "err", err)
		}
	}
	return nil
}

// claim makes the database the one that keeps the effects of this deployment, unless
// another does.
func (a *App) claim(ctx context.Context, store *effects.Store, owner effects.Ownership) error {
	keeps, err := a.deployment.ClaimDatabase(ctx, a.redis, owner.Database)
	if err != nil {
		return err
	}
	if keeps != owner.Database {
		return fmt.Errorf("%w: another database (%s) keeps the effects of what is under the prefix %s, and the configured one (%s) would keep a part of them: "+
			"name that database, or another streams.prefix, or change over to this one by paybell deployment move",
			streams.ErrDeployment, keeps, a.cfg.Streams.Prefix, owner.Database)
	}
	id := owner.Deployment
	if id == "" {
		if id, err = store.Claim(ctx, a.deployment.ID()); err != nil {
			return err
		}
	}
	return expect(a.deployment, id, "another process has just claimed the database for the second")
}

// expectMark says that a journal's callbacks are for the deployment on its mark.
func expectMark(d *streams.Deployment, mark string) error {
	id, err := readMark(mark)
	if err != nil {
		return err
	}
	return expect(d, id, "the journal holds callbacks of the second: name its own Redis and prefix, or remove "+mark+" to give them to this one")
}

// expect says that something is of the deployment with that id, "" for of none yet.
func expect(d *streams.Deployment, id, otherwise string) error {
	if id == "" {
		return nil
	}
	if err := d.Expect(id); err != nil {
		return fmt.Errorf("%w: %s", err, otherwise)
	}
	return nil
}

// journalMark is the file that says which deployment a journal's callbacks are for.
func journalMark(o gateway.JournalOptions) string { return filepath.Join(o.Dir, "deployment") }

// readMark returns "" where there is no mark yet, or one that a loss of power has emptied.
func readMark(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("journal.dir: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// writeMark leaves a mark that is there as it is. Only a whole one gets the name.
func writeMark(path, id string) error {
	if there, err := readMark(path); err != nil || there != "" {
		return err
	}
	whole := path + ".new"
	err := os.WriteFile(whole, []byte(id+"\n"), 0o600)
	if err == nil {
		err = os.Rename(whole, path)
	}
	if err != nil {
		return fmt.Errorf("journal.dir: %w", err)
	}
	return nil
}

// Ownership is what Redis and the database say of each other.
type Ownership struct {
	// Deployment is the id of what is in Redis, and Keeps that of the database that keeps
	// its effects, "" while none does.
	Deployment, Keeps string
	// Database is what the configured database says of itself.
	Database effects.Ownership
}

// Agreed reports whether each names the other.
func (o Ownership) Agreed() bool {
	return o.Deployment == o.Database.Deployment && o.Keeps == o.Database.Database
}

// ReadOwnership asks the configured Redis and the database of c, which has to be migrated.
func ReadOwnership(ctx context.Context, c *configs.Config, store *effects.Store) (out Ownership, err error) {
	if err := store.CheckMigrated(ctx); err != nil {
		return Ownership{}, err
	}
	err = withDeployment(ctx, c, func(d *streams.Deployment, rdb streams.Client) error {
		if out.Database, err = store.Ownership(ctx); err != nil {
			return err
		}
		out.Deployment = d.ID()
		out.Keeps, err = d.Database(ctx, rdb)
		return err
	})
	return out, err
}

// MoveOwnership makes Redis and the database of c name each other.
func MoveOwnership(ctx context.Context, c *configs.Config, store *effects.Store) error {
	return withDeployment(ctx, c, func(d *streams.Deployment, rdb streams.Client) error {
		owner, err := store.Ownership(ctx)
		if err != nil {
			return err
		}
		// The database goes first: with a kill in between, Redis still names the one it
		// named before, and this one is refused.
		if err := store.Move(ctx, d.ID()); err != nil {
			return err
		}
		return d.MoveDatabase(ctx, rdb, owner.Database)
	})
}

func withDeployment(ctx context.Context, c *configs.Config, do func(*streams.Deployment, streams.Client) error) (err error) {
	if c.EmbeddedRedis() {
		return &ConfigError{errors.New("streams.redis.address: must be set: the embedded engine is of no deployment")}
	}
	if err := followPartitions(ctx, c, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	layout, err := streams.NewLayout(c.Streams.Prefix, c.Streams.Partitions)
	if err != nil {
		return fmt.Errorf("streams: %w", err)
	}
	d := streams.NewDeployment(layout)
	rdb, err := streams.NewWriteClient(c.Streams, d.Look)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rdb.Close()) }()
	if err := d.Establish(ctx, rdb); mismatch(err) {
		return &ConfigError{err}
	} else if err != nil {
		return err
	}
	return do(d, rdb)
}
