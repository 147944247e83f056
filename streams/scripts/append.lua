-- Adds entries unless their events were added before, all in one step.
-- KEYS: for each section, which is a partition and a dedup window: events, the ring of
--       buckets that hold the marks (see dedup.go), ledger.
-- ARGV: number of sections, number of field names, the names that all entries share;
--       then for each section: window in ms, number of records, and for each record:
--       mark (digest and facts), 1 for an undecodable event and 0 for any other, the
--       name of the last field, the values of all fields.
-- Answers for each record, in the order of ARGV: 1 new, 2 duplicate, 3 conflict (other
-- facts under the same event ID), or the error that kept it out. A section's error keeps
-- no other section out.
local call, try = redis.call, redis.pcall
local sub, find, byte, floor = string.sub, string.find, string.byte, math.floor
local sections, shared = tonumber(ARGV[1]), tonumber(ARGV[2])
local keys = #KEYS / sections
local ring = keys - 2
local size = 20 -- of a mark
local arg = shared + 3
local answers = {}

-- XADD's arguments; names stay, values change.
local entry = {'XADD', '', '*'}
for i = 1, shared do entry[2 * i + 2] = ARGV[i + 2] end
local last = 2 * shared + 5

-- The time is the server's: gateways with different clocks share their marks.
local time = call('TIME')
local clock = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)

local function failed(reply) return type(reply) == 'table' and reply.err end

-- A bucket is a hash of rows of marks. It has one row for every eight marks and
-- gains them one at a time (linear hashing), so that their number follows from the
-- number of marks, and one read finds a mark or tells that there is none.
local function spread(m, at)
  local a, b, c, d = byte(m, at, at + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end
-- The largest power of two that is not above n.
local function power(n)
  local _, e = math.frexp(n)
  return 2 ^ (e - 1)
end
-- The row of a hash among n, of which p is the power.
local function place(hash, n, p)
  local i = hash % (2 * p)
  if i >= n then i = i - p end
  return i
end
-- 2 or 3 where a row holds the mark's digest.
local function known(row, digest, mark)
  local from = find(row, digest, 1, true)
  while from and (from - 1) % size ~= 0 do from = find(row, digest, from + 1, true) end
  if not from then return nil end
  return sub(row, from, from + size - 1) == mark and 2 or 3
end

for section = 0, sections - 1 do
  local first = section * keys + 1
  local stream, ledger = KEYS[first], KEYS[first + keys - 1]
  local window, records = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
  local width = math.max(1, floor((window + 1) / 2))
  local now = floor(clock / width)
  local here = KEYS[first + 1 + now % ring]
  local step = shared + 4
  local from, done = arg + 2, #answers
  arg = from + records * step

  local marks, digests, hashes, found = {}, {}, {}, {}
  for r = 1, records do
    local mark = ARGV[from + (r - 1) * step]
    marks[r], digests[r], hashes[r] = mark, sub(mark, 1, 12), spread(mark, 1)
  end

  -- Everything is read before anything is written.
  local broken, stale, count, n, p
  local rows = {} -- of the bucket that is written to
  for back = 0, ring - 1 do
    local key = KEYS[first + 1 + (now - back) % ring]
    local head, held
    if back == 0 then
      head = try('HMGET', key, 'marks', 'bucket')
      held = head[1]
      -- Left from the last turn of the ring: an engine is late to drop it.
      stale = held and tonumber(head[2]) < now
    else
      head = try('HGET', key, 'marks')
      held = head
    end
    if failed(head) then broken = head break end
    if back == 0 and stale then held = false end
    local total = tonumber(held or 0)
    local rowsNow = floor(total / 8) + 1
    local pow = power(rowsNow)
    if back == 0 then count, n, p = total, rowsNow, pow end
    if held then
      local want, at, places = {'HMGET', key}, {}, {}
      for r = 1, records do
        if not found[r] then
          local i = place(hashes[r], rowsNow, pow)
          places[r] = i
          if not at[i] then
            want[#want + 1] = i
            at[i] = #want - 2
          end
        end
      end
      if back == 0 then
        -- Rows that may have to be split.
        for new = rowsNow, floor((total + records) / 8) do
          local i = new - power(new)
          if i < rowsNow and not at[i] then
            want[#want + 1] = i
            at[i] = #want - 2
          end
        end
      end
      if want[3] then
        local got = call(unpack(want))
        for r, i in pairs(places) do
          local row = got[at[i]]
          if row then found[r] = known(row, digests[r], marks[r]) end
        end
        if back == 0 then
          for i, j in pairs(at) do rows[i] = got[j] or '' end
        end
      end
    end
  end

  -- Events that are not known, each once.
  local fresh, new = {}, 0
  if not broken then
    for r = 1, records do
      if not found[r] and fresh[digests[r]] == nil then
        fresh[digests[r]] = false
        new = new + 1
      end
    end
    if new > 0 then
      -- Counted before the entries are added and their marks set: it is refused where
      -- the server takes no writes, and a script that ends in the middle is not taken
      -- back. An entry without its mark would be added again by every resend.
      local counted = try('HINCRBY', ledger, 'appended', new)
      if failed(counted) then broken = counted end
    end
  end

  local added, undecodable = {}, 0
  entry[2] = stream
  for r = 1, records do
    local outcome = found[r]
    if not outcome then
      local before = fresh[digests[r]]
      if broken then
        outcome = broken
      elseif before then
        outcome = before == marks[r] and 2 or 3
      else
        local a = from + (r - 1) * step
        for i = 1, shared do entry[2 * i + 3] = ARGV[a + 2 + i] end
        entry[last - 1], entry[last] = ARGV[a + 2], ARGV[a + 3 + shared]
        -- By pcall: the entry comes before its mark, and where it is refused nothing
        -- is marked.
        local id = try(unpack(entry, 1, last))
        if failed(id) then
          outcome = id
        else
          outcome = 1
          fresh[digests[r]] = marks[r]
          added[#added + 1] = r
          if ARGV[a + 1] == '1' then undecodable = undecodable + 1 end
        end
      end
    end
    answers[done + r] = outcome
  end

  if not broken and new > 0 then
    if #added < new then call('HINCRBY', ledger, 'appended', #added - new) end
    -- By pcall: an error here would leave the entries without their marks.
    if undecodable > 0 then try('HINCRBY', ledger, 'undecodable', undecodable) end
  end
  if #added > 0 then
    if stale then call('UNLINK', here) end
    local changed, set = {}, {'HSET', here, 'marks', count + #added}
    for _, r in ipairs(added) do
      local i = place(hashes[r], n, p)
      rows[i] = (rows[i] or '') .. marks[r]
      changed[i] = true
      count = count + 1
      if count % 8 == 0 then
        -- Row n is new: it takes its marks from the row they stood in without it.
        local old, stay, move = rows[n - p] or '', {}, {}
        for j = 1, #old, size do
          local m = sub(old, j, j + size - 1)
          if spread(m, 1) % (2 * p) == n then move[#move + 1] = m else stay[#stay + 1] = m end
        end
        rows[n - p], rows[n] = table.concat(stay), table.concat(move)
        changed[n - p], changed[n] = true, true
        n = n + 1
        if n == 2 * p then p = n end
      end
    end
    for i in pairs(changed) do
      set[#set + 1] = i
      set[#set + 1] = rows[i]
    end
    local begun = count == #added
    if begun then
      set[#set + 1] = 'bucket'
      set[#set + 1] = string.format('%.0f', now)
    end
    call(unpack(set))
    if begun then call('PEXPIREAT', here, string.format('%.0f', (now + 1) * width + window)) end
  end
end
return answers
