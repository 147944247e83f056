-- Adds an entry unless its event was added before, in one step.
-- KEYS: events, then the ring of buckets that hold the marks (see dedup.go), then
--       ledger.
-- ARGV: mark (digest and facts), width of a bucket in ms, window in ms,
--       field, value, ...
-- Answers 1 new, 2 duplicate, 3 conflict (other facts under the same event ID).
local digest, facts = string.sub(ARGV[1], 1, 12), string.sub(ARGV[1], 13)
local size = #ARGV[1]

-- The time is the server's: gateways with different clocks share their marks.
local time = redis.call('TIME')
local width = tonumber(ARGV[2])
local now = math.floor((tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)) / width)
local ring = #KEYS - 2
local here = KEYS[2 + now % ring]

-- A bucket is a hash of rows of marks. It has one row for every eight marks and
-- gains them one at a time (linear hashing), so that their number follows from the
-- number of marks, and one read finds a mark or tells that there is none.
local function spread(m)
  local a, b, c, d = string.byte(m, 1, 4)
  return ((a * 256 + b) * 256 + c) * 256 + d
end
local hash = spread(digest)
-- The row of the digest among n, and the largest power of two that is not above n.
local function place(n)
  local _, e = math.frexp(n)
  local p = 2 ^ (e - 1)
  local i = hash % (2 * p)
  if i >= n then i = i - p end
  return i, p
end

local marks, i, row, power, n, stale
for back = 0, ring - 1 do
  local key = KEYS[2 + (now - back) % ring]
  local held
  if back > 0 then
    held = redis.call('HGET', key, 'marks')
  else
    local b = redis.call('HMGET', key, 'marks', 'bucket')
    held = b[1]
    -- Left from the last turn of the ring: an engine is late to drop it.
    stale = held and tonumber(b[2]) < now
    if stale then held = false end
  end
  local count = tonumber(held or 0)
  local rows = math.floor(count / 8) + 1
  local at, p = place(rows)
  local found = held and redis.call('HGET', key, at) or ''
  local from = string.find(found, digest, 1, true)
  while from and (from - 1) % size ~= 0 do from = string.find(found, digest, from + 1, true) end
  if from then
    if string.sub(found, from + 12, from + size - 1) == facts then return 2 end
    return 3
  end
  if back == 0 then marks, i, row, power, n = count, at, found, p, rows end
end

-- The entry comes before its mark: where XADD is refused, nothing is marked. It comes
-- behind all that can be refused: a script that ends in the middle is not taken back,
-- and an entry without its mark would be added again by every resend.
redis.call('HINCRBY', KEYS[#KEYS], 'appended', 1)
local added = redis.pcall('XADD', KEYS[1], '*', unpack(ARGV, 4))
if type(added) == 'table' and added.err then
  redis.call('HINCRBY', KEYS[#KEYS], 'appended', -1)
  return added
end

if stale then redis.call('UNLINK', here) end
marks = marks + 1
row = row .. ARGV[1]
if marks % 8 > 0 then
  redis.call('HSET', here, i, row, 'marks', marks)
else
  -- Row n is new: it takes its marks from the row they stood in without it.
  local from = n - power
  local old = row
  if from ~= i then
    redis.call('HSET', here, i, row)
    old = redis.call('HGET', here, from) or ''
  end
  local stay, move = {}, {}
  for j = 1, #old, size do
    local m = string.sub(old, j, j + size - 1)
    if spread(m) % (2 * power) == n then move[#move + 1] = m else stay[#stay + 1] = m end
  end
  redis.call('HSET', here, from, table.concat(stay), n, table.concat(move), 'marks', marks)
end
if marks == 1 then
  redis.call('HSET', here, 'bucket', string.format('%.0f', now))
  redis.call('PEXPIREAT', here, string.format('%.0f', (now + 1) * width + tonumber(ARGV[3])))
end
return 1
