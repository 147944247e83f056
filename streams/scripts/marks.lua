-- Goes before the scripts that look for marks (see dedup.go).
local call, try = redis.call, redis.pcall
local sub, find, byte, floor, frexp = string.sub, string.find, string.byte, math.floor, math.frexp
local size = 20 -- of a mark in bytes

-- A bucket is a hash of rows of marks. It has one row for every eight marks and
-- gains them one at a time (linear hashing), so that their number follows from the
-- number of marks, and one read finds a mark or tells that there is none.
local function spread(m)
  local a, b, c, d = byte(m, 1, 4)
  return ((a * 256 + b) * 256 + c) * 256 + d
end
-- The largest power of two that is not above n.
local function power(n)
  local _, e = frexp(n)
  return 2 ^ (e - 1)
end
-- The row of a hash among n, of which p is the power.
local function place(hash, n, p)
  local i = hash % (2 * p)
  if i >= n then i = i - p end
  return i
end

-- 2 or 3 where the row holds the mark's digest.
local function known(row, digest, mark)
  local at = find(row, digest, 1, true)
  while at and (at - 1) % size ~= 0 do at = find(row, digest, at + 1, true) end
  if not at then return nil end
  return sub(row, at, at + size - 1) == mark and 2 or 3
end

