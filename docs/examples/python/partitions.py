"""Which tags N partitions have, and which of them an ordering key belongs to.

    python3 partitions.py 16                     prints the 16 tags
    python3 partitions.py 16 shop/order/A1001    prints the tag of that key
"""

import hashlib
import sys


def slot(tag):
    """The Redis Cluster slot of a hash tag: CRC16 (XMODEM) modulo 16384."""
    crc = 0
    for byte in tag.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (0x1021 if crc & 0x8000 else 0)
            crc &= 0xFFFF
    return crc % 16384


def tags(n):
    """Partition i has the first of "0", "1", "2", … whose slot is the middle of range i of n."""
    wanted = {(2 * i + 1) * 16384 // (2 * n): i for i in range(n)}
    found = [""] * n
    number = 0
    while wanted:
        i = wanted.pop(slot(str(number)), None)
        if i is not None:
            found[i] = str(number)
        number += 1
    return found


def partition(key, n):
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % n


if __name__ == "__main__":
    names = tags(int(sys.argv[1]))
    print(names[partition(sys.argv[2], len(names))] if len(sys.argv) > 2 else " ".join(names))
