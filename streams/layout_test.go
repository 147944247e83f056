package streams_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/paybell/paybell/streams"
	"github.com/paybell/paybell/streams/streamstest"
)

var update = flag.Bool("update", false, "rewrite golden files; a change to one moves events that were appended")

// golden compares got with a golden file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("%s is frozen, and differs:\n%s", path, got)
	}
}

func layout(t *testing.T, partitions int) streams.Layout {
	t.Helper()
	l, err := streams.NewLayout("paybell", partitions)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTagsAreFrozen(t *testing.T) {
	var b strings.Builder
	for _, n := range []int{1, 2, 4, 8, 16, 32, 64} {
		l := layout(t, n)
		fmt.Fprintf(&b, "%d:", n)
		for i := range n {
			fmt.Fprintf(&b, " %s", l.Tag(i))
		}
		b.WriteString("\n")
	}
	golden(t, "tags.golden", b.String())
}

func TestPartitionIsFrozen(t *testing.T) {
	keys := []string{
		"shop/order/A1001", "shop/order/20190815155618536-564-57", "shop/ref/pi_3MtwBwLkdIwHu7ix28a3tqPa",
		"shop/sku/SKU-1", "shop/event/evt_k5zq2m7c", "магазин/order/№7", "shop/order/", "",
	}
	var b strings.Builder
	for _, key := range keys {
		fmt.Fprintf(&b, "%q:", key)
		for _, n := range []int{1, 2, 4, 7, 8, 16, 32, 64, 1024} {
			got := strconv.Itoa(layout(t, n).Partition(key))
			// The line that a subscriber in another language writes.
			sum := sha256.Sum256([]byte(key))
			want := new(big.Int).Mod(new(big.Int).SetBytes(sum[:8]), big.NewInt(int64(n))).String()
			if got != want {
				t.Errorf("%q of %d: %s, want %s", key, n, got, want)
			}
			b.WriteString(" " + got)
		}
		b.WriteString("\n")
	}
	golden(t, "partition.golden", b.String())
}

// The server's own CLUSTER KEYSLOT is the judge of the slots.
func TestTagsSpreadEvenlyOverNodes(t *testing.T) {
	server := streamstest.New(t, streamstest.Redis(t, "--cluster-enabled", "yes").Addr())
	for _, partitions := range []int{1, 2, 3, 5, 8, 16, 24, 64, streams.MaxPartitions} {
		l := layout(t, partitions)
		slots := make([]int, partitions)
		for i := range partitions {
			slot, err := server.Write.ClusterKeySlot(t.Context(), l.Events(i)).Result()
			if err != nil {
				t.Fatal(err)
			}
			slots[i] = int(slot)
			for _, key := range append(l.Seen(i, time.Hour), l.Lease(i, "g"), l.Epoch(i, "g"), l.Attempts(i, "g"), l.Dead(i, "g")) {
				if other := server.Write.ClusterKeySlot(t.Context(), key).Val(); other != slot {
					t.Fatalf("%s has slot %d, %s has %d", key, other, l.Events(i), slot)
				}
			}
		}
		for _, nodes := range []int{1, 2, 3, 4, 5, 6, 9, 12} {
			per := make([]int, nodes)
			for _, slot := range slots {
				per[slot*nodes/16384]++
			}
			low, high := per[0], per[0]
			for _, n := range per {
				low, high = min(low, n), max(high, n)
			}
			if high-low > 1 {
				t.Errorf("%d partitions on %d nodes: %v", partitions, nodes, per)
			}
		}
	}
}

func TestLayoutKeys(t *testing.T) {
	l := layout(t, 1)
	tag := "paybell:{" + l.Tag(0) + "}:"
	for got, want := range map[string]string{
		l.Events(0): tag + "events",
		strings.Join(l.Seen(0, 7*24*time.Hour), " "): strings.ReplaceAll("@0 @1 @2", "@", tag+"seen:604800000:"),
		strings.Join(l.Seen(0, time.Hour), " "):      strings.ReplaceAll("@0 @1 @2", "@", tag+"seen:3600000:"),
		l.Lease(0, "points"):                         tag + "lease:points",
		l.Epoch(0, "points"):                         tag + "epoch:points",
		l.Attempts(0, "points"):                      tag + "attempts:points",
		l.Dead(0, "points"):                          tag + "dead:points",
		l.Members("points"):                          "paybell:{members}:points",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for _, c := range []struct {
		prefix     string
		partitions int
		problem    string
	}{
		{"", 16, "prefix"},
		{"pay{bell}", 16, "prefix"},
		{"pay bell", 16, "prefix"},
		{":paybell", 16, "prefix"},
		{strings.Repeat("p", 65), 16, "prefix"},
		{"paybell", 0, "partitions"},
		{"paybell", streams.MaxPartitions + 1, "partitions"},
	} {
		if _, err := streams.NewLayout(c.prefix, c.partitions); err == nil || !strings.Contains(err.Error(), c.problem+":") {
			t.Errorf("NewLayout(%q, %d): %v", c.prefix, c.partitions, err)
		}
	}
}
