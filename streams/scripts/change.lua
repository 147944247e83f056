-- Changes the number of partitions, where nothing is left to do in those that there are:
-- all of it in this one step, so that a kill leaves the old number or the new one.
-- KEYS: deployment; for each partition that there is, and then for each that there is to
-- be: events, ledger, trim, and for each group with an account counts, parked, parcels, dead.
-- ARGV: token of the change, number of partitions that there are, number that there are to
--       be, generation, how long in ms what is kept of settled entries stays, the format
--       that a build has to read from now on, how many groups have accounts, their names,
--       the names of other declared groups.
-- Answers {1, 'done'}; {1, 'changed'} where the deployment is not as the caller believes;
-- {1, 'busy', partition, group, what, how much, ...} where something is left to do.
local from, to, own = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[7])
local d = redis.call('HMGET', KEYS[1], 'partitions', 'generation', 'change', 'oldest_format')
if d[1] ~= ARGV[2] or (d[2] or '0') ~= ARGV[4] or string.match(d[3] or '', '^%S+') ~= ARGV[1] then return {1, 'changed'} end
local generation = string.format('%.0f', tonumber(ARGV[4]) + 1)
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)

-- The first key of a partition, counted over both numbers.
local width = 3 + 4 * own
local function first(p) return 2 + p * width end
local function map(list)
  local m = {}
  for i = 1, #list, 2 do m[list[i]] = list[i + 1] end
  return m
end
local function groups_of(events)
  local list, out = redis.pcall('XINFO', 'GROUPS', events), {}
  if list.err and not string.find(list.err, 'no such key', 1, true) then error(list.err) end
  for _, g in ipairs(list.err and {} or list) do out[#out + 1] = map(g) end
  return out
end
local function behind(events, g)
  return #redis.call('XRANGE', events, '(' .. g['last-delivered-id'], '+', 'COUNT', 1) > 0
end

-- What the accounts count, and is summed up in the first of the new partitions.
local counted = {'settled', 'dropped', 'lost', 'base', 'replayed', 'again', 'lost_known', 'again_known'}

-- The position of an effect store belongs to the place of a partition in its number, and a
-- hash tag may have another place in another number.
local positions = {}
-- By group, whether its effect store went back to an earlier state meanwhile.
local rewound = {}

-- What is left to do. Not all of it is listed.
local busy, there, newest = {1, 'busy'}, {}, now
local function note(p, group, what, n)
  if n > 0 and #busy < 400 then
    for _, v in ipairs({p, group, what, n}) do busy[#busy + 1] = v end
  end
end
for p = 0, from - 1 do
  local k = first(p)
  local groups = groups_of(KEYS[k])
  local known = {}
  for _, g in ipairs(groups) do
    there[g['name']], known[g['name']] = true, true
    note(p, g['name'], 'unread', behind(KEYS[k], g) and 1 or 0)
    note(p, g['name'], 'pending', g['pending'])
  end
  for i = 8, #ARGV do
    -- It is given what the stream has when it is created.
    if not known[ARGV[i]] then note(p, ARGV[i], 'unread', redis.call('XLEN', KEYS[k])) end
  end
  for i = 1, own do
    local c = k + 4 * i - 1
    note(p, ARGV[7 + i], 'parked', math.max(redis.call('ZCARD', KEYS[c + 1]), redis.call('HLEN', KEYS[c + 2])))
    note(p, ARGV[7 + i], 'dead', redis.call('XLEN', KEYS[c + 3]))
  end
  local about = redis.pcall('XINFO', 'STREAM', KEYS[k])
  if not about.err then
    newest = math.max(newest, tonumber(string.match(map(about)['last-generated-id'], '^%d+')))
  end
end
if #busy > 2 then return busy end

-- Nothing is written where a key is of another type: a script is not taken back.
local types = {}
for p = 0, from + to - 1 do
  local k = first(p)
  for i, kind in ipairs({'stream', 'hash', 'hash'}) do types[#types + 1], types[#types + 2] = KEYS[k + i - 1], kind end
  for i = k + 3, k + width - 1, 4 do
    for j, kind in ipairs({'hash', 'zset', 'hash', 'stream'}) do types[#types + 1], types[#types + 2] = KEYS[i + j - 1], kind end
  end
end
local no = overwritten(types)
if no then return no end

-- The gates of the old number stay closed. What is kept there goes by itself, which a way
-- back to that number may still need.
local sums = {}
local function take(key, field, as)
  local n = tonumber(redis.call('HGET', key, field) or '0')
  sums[as] = (sums[as] or 0) + (n or 0)
end
for p = 0, from - 1 do
  local k = first(p)
  sums.appended = (sums.appended or 0) + appended(KEYS[k + 1])
  take(KEYS[k + 1], 'undecodable', 'undecodable')
  redis.call('HSET', KEYS[k + 1], 'appended', 'closed', 'counted', 0, 'open', '')
  redis.call('HDEL', KEYS[k + 1], 'until', 'plain', 'undecodable')
  local trim = redis.call('HGETALL', KEYS[k + 2])
  for i = 1, #trim, 2 do
    -- What a group had read, and whether Redis knows it, is the stream's.
    if string.find(trim[i], '^lost:') or string.find(trim[i], '^known:') or string.find(trim[i], '^overtaken:') then take(KEYS[k + 2], trim[i], 'trim ' .. trim[i]) end
  end
  redis.call('DEL', KEYS[k + 2])
  for i = 1, own do
    for _, field in ipairs(counted) do take(KEYS[k + 4 * i - 1], field, i .. field) end
    redis.call('HDEL', KEYS[k + 4 * i - 1], unpack(counted))
    local times = redis.call('HMGET', KEYS[k + 4 * i - 1], 'rewound', 'rewound_before')
    if tonumber(times[1] or '0') > tonumber(times[2] or '0') then rewound[i] = true end
    positions[p .. ' ' .. i] = redis.call('HGET', KEYS[k + 4 * i - 1], 'position')
    redis.call('HSET', KEYS[k + 4 * i - 1], 'number', ARGV[2])
  end
  redis.call('PEXPIRE', KEYS[k], ARGV[5])
end

-- Two numbers may share a hash tag, and so a partition.
for i = 8, #ARGV do there[ARGV[i]] = true end
local start = string.format('%.0f', newest) .. '-0'
for p = 0, to - 1 do
  local k = first(from + p)
  for i = 1, own do
    local c = k + 4 * i - 1
    local _, err = create(KEYS[k], KEYS[k + 1], KEYS[c], KEYS[c + 1], KEYS[c + 3], ARGV[7 + i])
    if err then error(err) end
    local position = positions[p .. ' ' .. i]
    local before = redis.call('HMGET', KEYS[c], 'number', 'position', 'rewound')
    if before[1] == ARGV[3] then
      -- On the way back. What is kept there may be of before the state that the store has:
      -- it is delivered again.
      if rewound[i] and redis.call('XLEN', KEYS[k]) > 0 then
        position = '9007199254740991'
      elseif before[2] and not (position and tonumber(position) > tonumber(before[2])) then
        position = before[2]
      end
    end
    redis.call('HSET', KEYS[c], 'rewound_before', before[3] or '0')
    if position then redis.call('HSET', KEYS[c], 'position', position) else redis.call('HDEL', KEYS[c], 'position') end
  end
  for name in pairs(there) do redis.pcall('XGROUP', 'CREATE', KEYS[k], name, '0', 'MKSTREAM') end
  redis.call('PERSIST', KEYS[k])
  -- Entries are later than those of the partition of this number before: an effect store
  -- takes older ones for a Redis that went back in time.
  if not redis.pcall('XSETID', KEYS[k], start).err then
    local added = map(redis.call('XINFO', 'STREAM', KEYS[k]))['entries-added']
    for _, g in ipairs(groups_of(KEYS[k])) do
      if not behind(KEYS[k], g) then redis.call('XGROUP', 'SETID', KEYS[k], g['name'], start, 'ENTRIESREAD', added) end
    end
  end
  if redis.call('HGET', KEYS[k + 1], 'appended') == 'closed' then
    redis.call('HSET', KEYS[k + 1], 'open', generation)
    redis.call('HDEL', KEYS[k + 1], 'until', 'plain')
  end
end
local function give(key, field, n)
  if n and n ~= 0 then redis.call('HINCRBY', key, field, string.format('%.0f', n)) end
end
local k = first(from)
give(KEYS[k + 1], redis.call('HGET', KEYS[k + 1], 'appended') == 'closed' and 'counted' or 'appended', sums.appended)
give(KEYS[k + 1], 'undecodable', sums.undecodable)
for name, n in pairs(sums) do
  local field = string.match(name, '^trim (.+)$')
  if field then give(KEYS[k + 2], field, n) end
end
for i = 1, own do
  for _, field in ipairs(counted) do give(KEYS[k + 4 * i - 1], field, sums[i .. field]) end
end

local former = ARGV[2] .. ':' .. string.format('%.0f', now)
for number, at in string.gmatch(redis.call('HGET', KEYS[1], 'former') or '', '(%d+):(%d+)') do
  if number ~= ARGV[2] and number ~= ARGV[3] then former = former .. ' ' .. number .. ':' .. at end
end
redis.call('HSET', KEYS[1], 'partitions', ARGV[3], 'generation', generation, 'former', former,
  'oldest_format', string.format('%.0f', math.max(tonumber(d[4]) or 0, tonumber(ARGV[6]))))
redis.call('HDEL', KEYS[1], 'change')
return {1, 'done'}
