package streams

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
)

// clusterSlots is how many slots Redis Cluster spreads over its nodes.
const clusterSlots = 16384

// partitionOf is frozen (testdata/partition.golden): the first eight bytes of
// the key's SHA-256, read big endian, modulo the number of partitions. A
// subscriber in any language computes it in one line.
func partitionOf(key string, partitions int) int {
	sum := sha256.Sum256([]byte(key))
	return int(binary.BigEndian.Uint64(sum[:8]) % uint64(partitions)) //nolint:gosec // less than partitions, which is at most 1024
}

// tags returns one hash tag a partition, frozen (testdata/tags.golden). The slots
// are cut into as many equal ranges as there are partitions, and the tag of a
// partition is the first of "0", "1", "2", … whose slot is the middle of its
// range. Nodes own ranges of slots, so whatever their number, each gets as many
// partitions as any other, or one more.
func tags(partitions int) []string {
	owner := make(map[uint16]int, partitions)
	for i := range partitions {
		owner[uint16((2*i+1)*clusterSlots/(2*partitions))] = i //nolint:gosec // less than 16384
	}
	out := make([]string, partitions)
	for n := 0; len(owner) > 0; n++ {
		tag := strconv.Itoa(n)
		s := slot(tag)
		if i, ok := owner[s]; ok {
			out[i] = tag
			delete(owner, s)
		}
	}
	return out
}

// slot is the cluster slot of a key whose hash tag is tag: CRC16 in the XMODEM
// form (polynomial 0x1021, start 0) modulo 16384, as the cluster specification
// has it.
func slot(tag string) uint16 {
	var crc uint16
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % clusterSlots
}
