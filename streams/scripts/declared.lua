-- Goes before the scripts of the trimmer: what they are called with, and the groups.
-- KEYS: events, trim, ledger, then counts, parked, dead and parcels of each of our own
-- groups.
-- ARGV: retention age in ms, retention bytes, ghosts' least idle time in ms,
--       most entries to look at, age in ms and bytes of what is kept after it is settled,
--       number of our own groups, the server's run id or '', our own groups, the
--       subscribers' declared groups.
local function less(a, b) return newer(b, a) end
-- The id after one; the id itself where that cannot be told exactly.
local function after(id)
  local ms, seq = parts(id)
  if #seq > 15 then return id end
  return ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end
local function map(list)
  local m = {}
  for i = 1, #list, 2 do m[list[i]] = list[i + 1] end
  return m
end
local function entry(from, to)
  local e = redis.call('XRANGE', KEYS[1], from, to, 'COUNT', 1)
  return e[1] and e[1][1]
end

local look, own = tonumber(ARGV[4]), tonumber(ARGV[7])
local groups, created, declared = {}, {}, {}
local function look_up()
  local list = redis.pcall('XINFO', 'GROUPS', KEYS[1])
  if list.err then list = {} end
  groups = {}
  for _, g in ipairs(list) do
    local m = map(g)
    groups[m['name']] = m
  end
end
look_up()
-- A declared group that is not there gets everything from the first entry on, so
-- it has to be there before the floor is found.
for i = 9, #ARGV do
  declared[ARGV[i]] = i - 8
  if not groups[ARGV[i]] then
    local k = 4 * (i - 8)
    if i > 8 + own then
      redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[i], '0', 'MKSTREAM')
    else
      local _, err = create(KEYS[1], KEYS[3], KEYS[k], KEYS[k + 1], KEYS[k + 2], ARGV[i])
      if err then return {-2, err} end
    end
    created[#created + 1] = ARGV[i]
  end
end
if #created > 0 then look_up() end
