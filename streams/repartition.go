package streams

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Order holds inside a partition, so the number of partitions is changed at a moment when
// nothing is left to do in any: the gates are closed, the groups settle what there is, and
// one script writes the new number if it finds nothing left. A kill before that script
// leaves the old number, and the gates open by themselves after gateTTL; one after it
// leaves the new number. See docs/decisions/0025.

// gateTTL is how long a gate stays closed without being told again; gateEvery is how often
// it is told, and looked whether the groups are done.
const (
	gateTTL   = 5 * time.Second
	gateEvery = 250 * time.Millisecond
)

// Partitions is the number of partitions of a deployment as its record says, and what has
// become, or is to become, of it.
type Partitions struct {
	// Number is how many there are.
	Number int `json:"partitions"`
	// Generation is how often the number was changed.
	Generation string `json:"generation"`
	// Former are the numbers that there were, the last one first.
	Former []int `json:"former,omitempty"`
	// Becomes is what Number is being changed to, 0 where it is not. Unfinished says that
	// whoever did so has not gone on for longer than the gates stay closed.
	Becomes    int  `json:"becomes,omitempty"`
	Unfinished bool `json:"unfinished,omitempty"`

	token string
}

// ReadPartitions asks a server; the number is 0 where there is no deployment yet.
func ReadPartitions(ctx context.Context, rdb Client, prefix string) (Partitions, error) {
	l, err := NewLayout(prefix, 1)
	if err != nil {
		return Partitions{}, err
	}
	now, err := rdb.Time(ctx).Result()
	if err != nil {
		return Partitions{}, unavailable("streams: ask for the number of partitions", err)
	}
	r, err := NewDeployment(l).read(ctx, rdb)
	if err != nil || r == nil {
		return Partitions{}, err
	}
	if r.oldestFormat > format || r.layout != layoutVersion {
		return Partitions{}, r.check(l)
	}
	p := Partitions{Number: r.partitions, Generation: r.generation}
	for text := range strings.FieldsSeq(r.former) {
		number, _, _ := strings.Cut(text, ":")
		n, err := strconv.Atoi(number)
		if err != nil {
			return Partitions{}, fmt.Errorf("%w: its record cannot be read: former partitions %q", ErrLayout, text)
		}
		p.Former = append(p.Former, n)
	}
	if change := strings.Fields(r.change); len(change) == 3 {
		p.token, p.Becomes = change[0], int(number(change[1]))
		p.Unfinished = number(change[2]) <= now.UnixMilli()
	}
	return p, nil
}

// Change changes the number of partitions of a deployment.
type Change struct {
	// Prefix is that of the layout, To the number of partitions that there are to be.
	Prefix string
	To     int
	// Groups are the consumer groups that are declared, our own and those of other
	// services. Groups that are in the streams beside them are waited for, too.
	Groups []string
	// Keep is how long settled entries of the partitions that go stay: KeepOptions.Age.
	Keep time.Duration
	// Timeout is how long the groups are waited for while nothing is appended.
	Timeout time.Duration
	// Passed, if given, is called after each step.
	Passed func(ChangeStep)
	// Waits, if given, is told what is waited for, whenever that changes.
	Waits func([]Left)
}

// ChangeStep is a step of a Change that was made.
type ChangeStep string

// The steps of a Change.
const (
	// ChangeClosed: nothing is appended any more.
	ChangeClosed ChangeStep = "closed"
	// ChangeDone: the new number holds.
	ChangeDone ChangeStep = "changed"
	// ChangeTold: the connections of processes with the old number were closed.
	ChangeTold ChangeStep = "told"
)

// Left is what a group has left to do in a partition.
type Left struct {
	Partition int
	Group     string
	// What is unread, pending, parked or dead.
	What  string
	Count int64
}

// String says it in words.
func (l Left) String() string {
	if l.What == "unread" {
		return fmt.Sprintf("group %s has unread entries in partition %d", l.Group, l.Partition)
	}
	return fmt.Sprintf("group %s has %d %s in partition %d", l.Group, l.Count, l.What, l.Partition)
}

// Errors of a Change.
var (
	// ErrChanging says that another change is under way.
	ErrChanging = errors.New("streams: the number of partitions is being changed")
	// ErrLeft says that groups have not settled everything, or have dead letters. The
	// number is the old one.
	ErrLeft = errors.New("streams: the number of partitions is unchanged")
)

// Run makes the change, or nothing where the number is To already. It returns how many
// partitions there were, and an ErrChanging, an ErrLeft, or an error that wraps
// ErrUnavailable: then the number is the old one and the gates are open again, or will be
// after gateTTL, unless it was the answer of the last step that did not arrive; ask again.
func (c *Change) Run(ctx context.Context, rdb Client) (from int, err error) {
	p, err := ReadPartitions(ctx, rdb, c.Prefix)
	if err != nil {
		return 0, err
	}
	if p.Number == 0 {
		return 0, fmt.Errorf("%w: there is no deployment under the prefix %s: set streams.partitions and start paybell", ErrLayout, c.Prefix)
	}
	if p.Number == c.To {
		return p.Number, Reopen(ctx, rdb, c.Prefix, p)
	}
	r := &changing{Change: c, run: newRunner(rdb), rdb: rdb, was: p, token: strings.ToLower(rand.Text())}
	if r.old, err = NewLayout(c.Prefix, p.Number); err != nil {
		return p.Number, err
	}
	if r.new, err = NewLayout(c.Prefix, c.To); err != nil {
		return p.Number, err
	}
	if err := r.refuseDead(ctx); err != nil {
		return p.Number, err
	}
	if err := r.wait(ctx); err != nil {
		giving, cancel := context.WithTimeout(context.WithoutCancel(ctx), gateTTL)
		defer cancel()
		_ = open(giving, r.run, r.old, r.token, p.Generation) // they open by themselves
		return p.Number, err
	}
	c.passed(ChangeDone)
	return p.Number, nil
}

func (c *Change) passed(step ChangeStep) {
	if c.Passed != nil {
		c.Passed(step)
	}
}

// changing is a Change under way.
type changing struct {
	*Change
	run      *runner
	rdb      Client
	was      Partitions
	old, new Layout
	token    string
}

// refuseDead refuses to begin where there are dead letters: their ids would be of no
// partition any more.
func (r *changing) refuseDead(ctx context.Context) error {
	accounts, _, err := r.groups(ctx)
	if err != nil {
		return err
	}
	pipe := r.rdb.Pipeline()
	dead := make(map[string][]*redis.IntCmd, len(accounts))
	for _, name := range accounts {
		for i := range r.old.Partitions() {
			dead[name] = append(dead[name], pipe.XLen(ctx, r.old.Dead(i, name)))
		}
	}
	if len(dead) == 0 {
		return nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return unavailable("streams: count dead letters", err)
	}
	for _, name := range accounts {
		var n int64
		for _, cmd := range dead[name] {
			n += cmd.Val()
		}
		if n > 0 {
			return fmt.Errorf("%w: group %s has %d dead letters: replay or drop them first (paybell replay %s, paybell deadletters drop %s)", ErrLeft, name, n, name, name)
		}
	}
	return nil
}

// groups returns the groups that are declared or in the streams: those that have accounts,
// which are our own and those that the package workers runs elsewhere, and the others.
func (r *changing) groups(ctx context.Context) (accounts, others []string, err error) {
	pipe := r.rdb.Pipeline()
	infos := make([]*redis.XInfoGroupsCmd, r.old.Partitions())
	for i := range infos {
		infos[i] = pipe.XInfoGroups(ctx, r.old.Events(i))
	}
	_, _ = pipe.Exec(ctx) // a stream that is not there is an error of its command
	names := map[string]bool{}
	for _, name := range r.Groups {
		names[name] = true
	}
	for _, info := range infos {
		if err := info.Err(); err != nil && !strings.Contains(err.Error(), "no such key") {
			return nil, nil, unavailable("streams: ask for the groups", err)
		}
		for _, g := range info.Val() {
			names[g.Name] = true
		}
	}
	for name := range names {
		if !groupForm.MatchString(name) {
			others = append(others, name)
			continue
		}
		counts := make([]*redis.BoolCmd, r.old.Partitions())
		pipe := r.rdb.Pipeline()
		for i := range counts {
			counts[i] = pipe.HExists(ctx, r.old.Counts(i, name), "created")
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, nil, unavailable("streams: ask for the groups", err)
		}
		if slices.ContainsFunc(counts, func(c *redis.BoolCmd) bool { return c.Val() }) {
			accounts = append(accounts, name)
		} else {
			others = append(others, name)
		}
	}
	slices.Sort(accounts)
	slices.Sort(others)
	return accounts, others, nil
}

// wait closes the gates, keeps them closed, and changes the number as soon as nothing is
// left to do.
func (r *changing) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, errChangeTimeout)
	defer cancel()
	t := time.NewTicker(gateEvery)
	defer t.Stop()
	var left []Left
	closed := false
	for {
		err := r.close(ctx)
		if err == nil && !closed {
			closed = true
			r.passed(ChangeClosed)
		}
		if err == nil {
			var now []Left
			if now, err = r.try(ctx); err == nil && len(now) == 0 {
				return nil
			}
			if err == nil && r.Waits != nil && !slices.Equal(left, now) {
				r.Waits(now)
			}
			if err == nil {
				left = now
			}
		}
		if errors.Is(err, errDone) {
			return nil
		}
		// A server that is restarted meanwhile is waited for like the groups.
		if err != nil && (!errors.Is(err, ErrUnavailable) || !closed) && ctx.Err() == nil {
			return err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return r.givenUp(context.Cause(ctx), left, err)
		}
	}
}

var errChangeTimeout = errors.New("the time is over")

// givenUp says what was waited for.
func (r *changing) givenUp(cause error, left []Left, err error) error {
	switch {
	case len(left) > 0 && (err == nil || errors.Is(err, context.DeadlineExceeded)): // the end may come in the middle of a call
	case err != nil:
		return fmt.Errorf("%w: %w: %w", ErrLeft, cause, err)
	default:
		return fmt.Errorf("%w: %w", ErrLeft, cause)
	}
	lines := make([]string, 0, len(left))
	for _, l := range left[:min(len(left), 10)] {
		lines = append(lines, l.String())
	}
	if len(left) > 10 {
		lines = append(lines, "and more")
	}
	return fmt.Errorf("%w: %w, and these are not done: %s; let workers or subscribers settle it, or remove a group that nobody runs any more with XGROUP DESTROY",
		ErrLeft, cause, strings.Join(lines, "; "))
}

// close closes the gates for another gateTTL.
func (r *changing) close(ctx context.Context) error {
	reply, err := r.run.run(ctx, closeScript, gates(r.old), r.token, r.was.Number, r.To, r.was.Generation, gateTTL.Milliseconds())
	if err != nil {
		return err
	}
	switch at(reply, 0) {
	case "closed":
		return nil
	case "held":
		return fmt.Errorf("%w: to %d, by another command: wait for it, or, if it was killed, %s",
			ErrChanging, number(at(reply, 2)), (time.Duration(number(at(reply, 1))) * time.Millisecond).Round(time.Second))
	default:
		return r.changed(ctx)
	}
}

// errDone says that the number was changed by a call whose answer did not arrive.
var errDone = errors.New("streams: the number of partitions is changed")

// changed tells why the record is not as it was.
func (r *changing) changed(ctx context.Context) error {
	p, err := ReadPartitions(ctx, r.rdb, r.Prefix)
	switch {
	case err != nil:
		return err
	case p.Number == r.To:
		return errDone
	default:
		return fmt.Errorf("%w: another command has changed it meanwhile", ErrChanging)
	}
}

// try changes the number, or returns what is left to do.
func (r *changing) try(ctx context.Context) ([]Left, error) {
	accounts, others, err := r.groups(ctx)
	if err != nil {
		return nil, err
	}
	keys := []string{r.old.Deployment()}
	for _, l := range []Layout{r.old, r.new} {
		for i := range l.Partitions() {
			keys = append(keys, l.Events(i), l.Ledger(i), l.Trim(i))
			for _, name := range accounts {
				keys = append(keys, l.Counts(i, name), l.Parked(i, name), l.Parcels(i, name), l.Dead(i, name))
			}
		}
	}
	args := []any{r.token, r.was.Number, r.To, r.was.Generation, max(r.Keep, keepLeast).Milliseconds(), changedFormat, len(accounts)}
	reply, err := r.run.run(ctx, changeScript, keys, anys(anys(args, accounts), others)...)
	if err != nil {
		return nil, err
	}
	switch at(reply, 0) {
	case "done":
		return nil, nil
	case "busy":
		var left []Left
		for i := 1; i+3 < len(reply); i += 4 {
			group, _ := reply[i+1].(string) // the script answers texts
			what, _ := reply[i+2].(string)
			left = append(left, Left{int(number(reply[i])), group, what, number(reply[i+3])})
		}
		return left, nil
	default:
		return nil, r.changed(ctx)
	}
}

// keepLeast is how long the streams of partitions that go stay at least: whoever still
// reads them shall see that they are empty, and not that they are gone.
const keepLeast = time.Minute

// gates are the keys of close.lua and open.lua.
func gates(l Layout) []string {
	keys := []string{l.Deployment()}
	for i := range l.Partitions() {
		keys = append(keys, l.Ledger(i))
	}
	return keys
}

func open(ctx context.Context, run *runner, l Layout, token, generation string) error {
	_, err := run.run(ctx, openScript, gates(l), token, generation)
	return err
}

// Reopen opens the gates that a change has left closed, and whose time is over.
func Reopen(ctx context.Context, rdb Client, prefix string, p Partitions) error {
	if p.Becomes == 0 {
		return nil
	}
	if !p.Unfinished {
		return fmt.Errorf("%w: to %d, by another command", ErrChanging, p.Becomes)
	}
	l, err := NewLayout(prefix, p.Number)
	if err != nil {
		return err
	}
	return open(ctx, newRunner(rdb), l, p.token, p.Generation)
}

// ForgetConnections closes the connections of all paybell processes to a server, so that
// each asks for the number of partitions again, save the one that says so. It returns how
// many they were.
func ForgetConnections(ctx context.Context, rdb Client) (int, error) {
	list, err := rdb.ClientList(ctx).Result()
	if err != nil {
		return 0, unavailable("streams: close connections", err)
	}
	n := 0
	for line := range strings.Lines(list) {
		fields := map[string]string{}
		for f := range strings.FieldsSeq(line) {
			name, value, _ := strings.Cut(f, "=")
			fields[name] = value
		}
		if !strings.HasPrefix(fields["name"], clientName) {
			continue
		}
		killed, err := rdb.ClientKillByFilter(ctx, "ID", fields["id"]).Result()
		if err != nil {
			return n, unavailable("streams: close connections", err)
		}
		n += int(killed)
	}
	return n, nil
}
