-- Adds entries unless their events were added before, all in one step.
-- KEYS: for each section, which is a partition and a dedup window: events, the ring of
--       buckets that hold the marks (see dedup.go), ledger.
-- ARGV: number of sections, the generation of the layout that the caller knows; then for
--       each section: window in ms, number of records, and for each record: mark (digest
--       and facts), 1 for an undecodable event and 0 for any other, the values of the
--       fields schema to evidence in their order, the name of the last field, its value.
-- Answers for each record, in the order of ARGV: 1 new, 2 duplicate, 3 conflict (other
-- facts under the same event ID), or the error that kept it out. A section's error keeps
-- no other section out.
local sections = tonumber(ARGV[1])
local keys = #KEYS / sections
local ring = keys - 2
local step = 13 -- of a record in arguments
local arg = 3
local answers = {}

-- The time is the server's: gateways with different clocks share their marks.
local time = call('TIME')
local clock = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)

for section = 0, sections - 1 do
  local first = section * keys + 1
  local stream, ledger = KEYS[first], KEYS[first + keys - 1]
  local window, records = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
  local width = math.max(1, floor((window + 1) / 2))
  local now = floor(clock / width)
  local here = KEYS[first + 1 + now % ring]
  local from = arg + 2
  local after = from + records * step - 1

  local digests, hashes, found = {}, {}, {} -- by the place of the mark in ARGV
  for m = from, after, step do
    digests[m], hashes[m] = sub(ARGV[m], 1, 12), spread(ARGV[m])
  end

  -- Everything is read before anything is written.
  local broken, stale, count, n, p
  local rows = {} -- of the bucket that is written to
  local new = records
  for back = 0, ring - 1 do
    local key = KEYS[first + 1 + (now - back) % ring]
    local held
    if back == 0 then
      local head = try('HMGET', key, 'marks', 'bucket')
      if head.err then broken = head break end
      held = head[1]
      -- Left from the last turn of the ring: an engine is late to drop it.
      stale = held and tonumber(head[2]) < now
      if stale then held = false end
    else
      held = try('HGET', key, 'marks')
      if type(held) == 'table' then broken = held break end
    end
    local total = tonumber(held or 0)
    local have = floor(total / 8) + 1
    local pow = power(have)
    if back == 0 then count, n, p = total, have, pow end
    if held and new > 0 then
      local want, at, wanted = {'HMGET', key}, {}, 0
      for m = from, after, step do
        if not found[m] then
          local i = place(hashes[m], have, pow)
          if not at[i] then
            wanted = wanted + 1
            at[i], want[wanted + 2] = wanted, i
          end
        end
      end
      if back == 0 then
        -- Rows that may have to be split.
        for split = have, floor((total + records) / 8) do
          local i = split - power(split)
          if i < have and not at[i] then
            wanted = wanted + 1
            at[i], want[wanted + 2] = wanted, i
          end
        end
      end
      local got = call(unpack(want))
      for m = from, after, step do
        if not found[m] then
          local row = got[at[place(hashes[m], have, pow)]]
          local outcome = row and known(row, digests[m], ARGV[m])
          if outcome then
            found[m] = outcome
            new = new - 1
          end
        end
      end
      if back == 0 then
        for i, j in pairs(at) do rows[i] = got[j] end
      end
    end
  end

  -- Counted before the entries are added and their marks set: it is refused where the
  -- server takes no writes, and a script that ends in the middle is not taken back. An
  -- entry without its mark would be added again by every resend.
  local counter = 'appended'
  if not broken and new > 0 then
    local counted = try('HINCRBY', ledger, counter, new)
    if type(counted) == 'table' then
      -- It is no number where the gate is, or was, closed (close.lua), which keeps out
      -- also those who know of no gate.
      local gate = try('HMGET', ledger, counter, 'open', 'until')
      if gate[1] == 'closed' then
        counter = 'counted'
        if gate[2] ~= ARGV[2] or gate[3] and tonumber(gate[3]) > clock then
          counted = redis.error_reply('CLOSED the number of partitions is being changed, or was changed')
        else
          counted = try('HINCRBY', ledger, counter, new)
        end
      end
    end
    if type(counted) == 'table' then broken = counted end
  end

  local added, undecodable, changed = 0, 0, {}
  for m = from, after, step do
    local outcome = found[m] or broken
    local i
    if not outcome then
      i = place(hashes[m], n, p)
      -- One that came before it in this call may be the same event.
      if added > 0 and rows[i] then outcome = known(rows[i], digests[m], ARGV[m]) end
    end
    if not outcome then
      -- By pcall: the entry comes before its mark, and where it is refused nothing is
      -- marked.
      local id = try('XADD', stream, '*', 'schema', ARGV[m + 2], 'id', ARGV[m + 3],
        'type', ARGV[m + 4], 'account', ARGV[m + 5], 'order', ARGV[m + 6], 'key', ARGV[m + 7],
        'facts', ARGV[m + 8], 'event', ARGV[m + 9], 'evidence', ARGV[m + 10],
        ARGV[m + 11], ARGV[m + 12])
      if type(id) == 'table' then
        outcome = id
      else
        outcome = 1
        added = added + 1
        if ARGV[m + 1] == '1' then undecodable = undecodable + 1 end
        rows[i] = (rows[i] or '') .. ARGV[m]
        changed[i] = true
        count = count + 1
        if count % 8 == 0 then
          -- Row n is new: it takes its marks from the row they stood in without it.
          local old, stay, move = rows[n - p] or '', {}, {}
          for j = 1, #old, size do
            local mark = sub(old, j, j + size - 1)
            if spread(mark) % (2 * p) == n then move[#move + 1] = mark else stay[#stay + 1] = mark end
          end
          rows[n - p], rows[n] = table.concat(stay), table.concat(move)
          changed[n - p], changed[n] = true, true
          n = n + 1
          if n == 2 * p then p = n end
        end
      end
    end
    answers[#answers + 1] = outcome
  end

  if added > 0 then
    if stale then call('UNLINK', here) end
    local set, filled = {'HSET', here, 'marks', count}, 4
    for i in pairs(changed) do
      set[filled + 1], set[filled + 2] = i, rows[i]
      filled = filled + 2
    end
    if count == added then -- its first
      set[filled + 1], set[filled + 2] = 'bucket', string.format('%.0f', now)
    end
    call(unpack(set))
    if count == added then call('PEXPIREAT', here, string.format('%.0f', (now + 1) * width + window)) end
    -- By pcall, and behind the marks: it must not keep them out.
    if undecodable > 0 then try('HINCRBY', ledger, 'undecodable', undecodable) end
  end
  if not broken and added < new then call('HINCRBY', ledger, counter, added - new) end
  arg = after + 1
end
return answers
