package streams

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// MaxPartitions is the largest number of partitions a layout can have.
const MaxPartitions = 1024

// prefixForm leaves out braces, which would move the hash tag, and blanks.
var prefixForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:._-]{0,63}$`)

// groupForm is what a group and a consumer may be called: it is part of keys, metric
// labels and command lines.
var groupForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ValidConsumer reports whether NewGroup takes a consumer of that name.
func ValidConsumer(name string) bool { return groupForm.MatchString(name) }

// Layout says which key everything lies under. It is a public contract (see
// docs/subscribing.md). Order is kept inside a partition only, so the number of partitions
// is changed by a Change alone, and is what the record of the Deployment says.
type Layout struct {
	prefix string
	// heads are "<prefix>:{<tag>}:", one a partition.
	heads []string
	tags  []string
}

// NewLayout lays out partitions under a prefix.
func NewLayout(prefix string, partitions int) (Layout, error) {
	if err := errors.Join(checkPrefix(prefix), checkPartitions(partitions)); err != nil {
		return Layout{}, fmt.Errorf("streams: layout: %w", err)
	}
	l := Layout{prefix: prefix, tags: tags(partitions), heads: make([]string, partitions)}
	for i, tag := range l.tags {
		l.heads[i] = prefix + ":{" + tag + "}:"
	}
	return l, nil
}

func checkPrefix(prefix string) error {
	if !prefixForm.MatchString(prefix) {
		return errors.New("prefix: must be 1 to 64 letters, digits or any of : . _ - and begin with a letter or digit")
	}
	return nil
}

func (o Options) checkPartitions() error {
	if o.Partitions == 0 { // as the record says
		return nil
	}
	return checkPartitions(o.Partitions)
}

func checkPartitions(n int) error {
	if n < 1 || n > MaxPartitions {
		return fmt.Errorf("partitions: must be between 1 and %d", MaxPartitions)
	}
	return nil
}

// Partitions is how many partitions there are.
func (l Layout) Partitions() int { return len(l.heads) }

// Partition is the partition of an ordering key (event.Event.OrderingKey).
func (l Layout) Partition(orderingKey string) int { return partitionOf(orderingKey, len(l.heads)) }

// Deployment is the hash that says which deployment the keys are of: its id, and the
// number of its partitions.
func (l Layout) Deployment() string { return l.prefix + ":deployment" }

// Accounts is the hash of the accounts that the deployment has had, by name: provider and
// namespace, with a blank between.
func (l Layout) Accounts() string { return l.prefix + ":accounts" }

// Trimmer is the lease of the one process that trims.
func (l Layout) Trimmer() string { return l.prefix + ":trimmer" }

// Tag is the hash tag that the keys of a partition share.
func (l Layout) Tag(partition int) string { return l.tags[partition] }

// Events is the stream that holds a partition's entries.
func (l Layout) Events(partition int) string { return l.heads[partition] + "events" }

// Seen are the hashes that hold the marks of events whose account has this dedup
// window, used in turn.
func (l Layout) Seen(partition int, window time.Duration) []string {
	keys := make([]string, seenBuckets)
	head := l.heads[partition] + "seen:" + strconv.FormatInt(window.Milliseconds(), 10) + ":"
	for i := range keys {
		keys[i] = head + strconv.Itoa(i)
	}
	return keys
}

// Lease is the hash that names the owner of a (group, partition) and its epoch.
func (l Layout) Lease(partition int, group string) string {
	return l.heads[partition] + "lease:" + group
}

// Epoch is the last epoch given out for a (group, partition).
func (l Layout) Epoch(partition int, group string) string {
	return l.heads[partition] + "epoch:" + group
}

// Attempts is the hash of attempts charged to unsettled entries, save those that run now.
func (l Layout) Attempts(partition int, group string) string {
	return l.heads[partition] + "attempts:" + group
}

// Runs is the hash of what an owner is running: owner and name of a run, and the ids of
// its entries, with blanks between.
func (l Layout) Runs(partition int, group string) string {
	return l.heads[partition] + "runs:" + group
}

// Dead is the stream of a group's dead letters.
func (l Layout) Dead(partition int, group string) string {
	return l.heads[partition] + "dead:" + group
}

// Ledger is the hash that counts, for a partition, the events "appended", and those of
// them that were "undecodable".
func (l Layout) Ledger(partition int) string { return l.heads[partition] + "ledger" }

// Trim is the hash that counts, for a partition, the entries lost to declared groups
// ("lost:<group>") and the times undeclared ones were overtaken ("overtaken:<group>").
func (l Layout) Trim(partition int) string { return l.heads[partition] + "trim" }

// Members is the sorted set of the processes that read a group, by their last sign of life.
func (l Layout) Members(group string) string { return l.prefix + ":{members}:" + group }
