package streams_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

// member is a process of a deployment, as far as Redis sees it.
type member struct {
	*streams.Deployment
	rdb    streams.Client
	layout streams.Layout
}

func newMember(t *testing.T, address string, partitions int) member {
	t.Helper()
	o := streams.DefaultOptions()
	o.Redis.Address, o.Partitions = address, partitions
	layout, err := streams.NewLayout(o.Prefix, partitions)
	if err != nil {
		t.Fatal(err)
	}
	m := member{Deployment: streams.NewDeployment(layout), layout: layout}
	if m.rdb, err = streams.NewWriteClient(o, m.Look); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.rdb.Close() }) // nothing is owed to it
	return m
}

func (m member) establish(t *testing.T) string {
	t.Helper()
	if err := m.Establish(t.Context(), m.rdb); err != nil {
		t.Fatal(err)
	}
	return m.ID()
}

// ask is any command: what it returns is what a new connection was refused with.
func (m member) ask(t *testing.T) error {
	t.Helper()
	return m.rdb.Set(t.Context(), "paybell:x", "1", 0).Err()
}

func TestAnotherNumberOfPartitionsIsRefusedWithEachConnection(t *testing.T) {
	server := streamstest.Redis(t)
	first := newMember(t, server.Addr(), 16)
	id := first.establish(t)
	if id == "" {
		t.Fatal("no id")
	}
	other := newMember(t, server.Addr(), 32)
	err := other.ask(t)
	if !errors.Is(err, streams.ErrLayout) || !strings.Contains(err.Error(), "set streams.partitions to 16") {
		t.Errorf("32 partitions beside 16: %v", err)
	}
	if n := first.rdb.Exists(t.Context(), "paybell:x").Val(); n != 0 {
		t.Error("a command of the process that was refused was run")
	}
	if err := other.Establish(t.Context(), other.rdb); !errors.Is(err, streams.ErrLayout) {
		t.Errorf("establish with 32: %v", err)
	}
	same := newMember(t, server.Addr(), 16)
	if err := same.ask(t); err != nil || same.ID() != id {
		t.Errorf("another process of the deployment: %v, id %q, want %q", err, same.ID(), id)
	}
}

// TestStreamsWithoutARecordTellTheirPartitions: what an older version wrote has no
// record, and must not get one of another layout.
func TestStreamsWithoutARecordTellTheirPartitions(t *testing.T) {
	server := streamstest.Redis(t)
	old := newMember(t, server.Addr(), 16)
	if err := old.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: old.layout.Events(3), Values: []string{"a", "b"}}).Err(); err != nil {
		t.Fatal(err)
	}
	other := newMember(t, server.Addr(), 32)
	if err := other.Establish(t.Context(), other.rdb); !errors.Is(err, streams.ErrLayout) || !strings.Contains(err.Error(), old.layout.Events(3)) {
		t.Errorf("32 partitions over streams of 16: %v", err)
	}
	if n := old.rdb.Exists(t.Context(), old.layout.Deployment()).Val(); n != 0 {
		t.Error("a record was made of a layout that is not there")
	}
	old.establish(t)
}

func TestRecordsOfANewerVersionAreRefused(t *testing.T) {
	for field, value := range map[string]string{"oldest_format": "3", "layout": "2", "partitions": "many"} {
		t.Run(field, func(t *testing.T) {
			server := streamstest.Redis(t)
			first := newMember(t, server.Addr(), 4)
			first.establish(t)
			if err := first.rdb.HSet(t.Context(), first.layout.Deployment(), field, value).Err(); err != nil {
				t.Fatal(err)
			}
			if err := newMember(t, server.Addr(), 4).ask(t); !errors.Is(err, streams.ErrLayout) {
				t.Errorf("%s %s: %v", field, value, err)
			}
		})
	}
}

// TestEmptiedRedisIsGivenItsIdAgain: a server that lost everything is this deployment's
// all the same, and another server in its place is not.
func TestEmptiedRedisIsGivenItsIdAgain(t *testing.T) {
	server, stranger := streamstest.Redis(t), streamstest.Redis(t)
	m := newMember(t, server.Addr(), 4)
	id := m.establish(t)
	server.Kill()
	server.Restart() // without a file, it has forgotten all
	streamstest.Eventually(t, "the server answers", func() bool { return m.ask(t) == nil })
	if got := m.rdb.HGet(t.Context(), m.layout.Deployment(), "id").Val(); got != id {
		t.Errorf("id %q, was %q", got, id)
	}
	other := newMember(t, stranger.Addr(), 4)
	other.establish(t)
	late := newMember(t, stranger.Addr(), 4)
	if err := late.Expect(id); err != nil {
		t.Fatal(err)
	}
	if err := late.ask(t); !errors.Is(err, streams.ErrDeployment) {
		t.Errorf("the server of another deployment: %v", err)
	}
}

// TestClusterNodeIsNotHiddenByTheRecord: a server that has no record to give is asked
// what it is all the same.
func TestClusterNodeIsNotHiddenByTheRecord(t *testing.T) {
	server := streamstest.Redis(t, "--cluster-enabled", "yes")
	m := newMember(t, server.Addr(), 4)
	d, err := streams.Check(t.Context(), m.rdb)
	if err != nil || !errors.Is(d.Breach(streams.DefaultOptions()), streams.ErrDurability) {
		t.Errorf("a cluster node: %+v, %v", d, err)
	}
}

func TestOfManyThatBeginADeploymentOneNamesIt(t *testing.T) {
	server := streamstest.Redis(t)
	const processes = 8
	var ids, databases [processes]string
	var wg sync.WaitGroup
	for i := range processes {
		m := newMember(t, server.Addr(), 16)
		wg.Go(func() {
			if err := m.Establish(t.Context(), m.rdb); err != nil {
				t.Error(err)
				return
			}
			ids[i] = m.ID()
			var err error
			if databases[i], err = m.ClaimDatabase(t.Context(), m.rdb, fmt.Sprint("database-", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range processes {
		if ids[i] != ids[0] || databases[i] != databases[0] || ids[0] == "" || databases[0] == "" {
			t.Errorf("process %d: deployment %q, database %q; the first: %q, %q", i, ids[i], databases[i], ids[0], databases[0])
		}
	}
}
