package streams

import "context"

// Pass makes a pass as Run does, whoever has the lease.
func (t *Trimmer) Pass(ctx context.Context, audit bool) error {
	_, err := t.pass(ctx, audit, true)
	return err
}
