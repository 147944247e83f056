-- Goes before the scripts that compare entry ids, or count what is unread. This is the one
-- way to count it: metrics, status and ledger all show what it answers. Redis's own lag
-- would not do: what it knows of a group's reads is not in the append-only file, and so is
-- wrong after a restart.
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return ms or id, seq or '0'
end
local function newer(a, b)
  local am, as = parts(a)
  local bm, bs = parts(b)
  -- Compared as text: a number of Lua does not hold all 64 bits.
  if #am ~= #bm then return #am > #bm end
  if am ~= bm then return am > bm end
  if #as ~= #bs then return #as > #bs end
  return as > bs
end

-- How many entries, and how many bytes of them, one call looks at to count what is unread.
local most, heavy = 500, 512 * 1024

-- The ids that were looked at, newest first: one walk serves all groups of a stream. length
-- and first are of that stream.
local of, walked, walked_bytes, walked_all = nil, {}, 0, false
local length, first

local function walk(events)
  local from = walked[#walked]
  -- The fields come along, so the pages are small: the first is for who has read all.
  local size = from and 11 or 1
  local page = redis.call('XREVRANGE', events, from or '+', '-', 'COUNT', size)
  for _, e in ipairs(page) do
    if e[1] ~= from then
      walked[#walked + 1] = e[1]
      for _, v in ipairs(e[2]) do walked_bytes = walked_bytes + #v end
    end
  end
  walked_all = #page < size
end

-- How many entries lie behind the last one delivered; -1 when that are too many to count,
-- and then the least it is.
local function unread(events, last)
  if events ~= of then of, walked, walked_bytes, walked_all, first = events, {}, 0, false, nil end
  local i = 1
  while true do
    while i > #walked do
      if walked_all then return #walked end
      if #walked >= most or walked_bytes >= heavy then return -1, #walked end
      walk(events)
    end
    if not newer(walked[i], last) then return i - 1 end
    if not first then
      length = redis.call('XLEN', events)
      first = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1][1]
    end
    if i == 1 and newer(first, last) then return length end
    i = i + 1
  end
end
