-- Goes before the scripts that keep deliveries outside the stream. A parcel is
-- what is kept of one: "<attempts known> <length of key> <key>", then its fields
-- and their values, each as "<length>:<bytes>". cjson is not binary safe everywhere.
local function parcel(attempts, fields)
  local key, out = '', {}
  for i = 1, #fields, 2 do
    if fields[i] == 'key' then key = fields[i + 1] end
  end
  for i, v in ipairs(fields) do out[i] = #v .. ':' .. v end
  return attempts .. ' ' .. #key .. ' ' .. key .. table.concat(out)
end

-- Answers the attempts known, the ordering key, and where the fields begin. What
-- somebody wrote there that is no parcel has neither key nor fields: it ends as a dead
-- letter and does not keep the others from being read.
local function label(p)
  local attempts, n, at = string.match(p, '^(%d+) (%d+) ()')
  n = tonumber(n)
  if not n or at + n > #p + 1 then return '0', '', #p + 1 end
  return attempts, string.sub(p, at, at + n - 1), at + n
end

local function contents(p)
  local _, _, at = label(p)
  local fields = {}
  while at <= #p do
    local n, from = string.match(p, '^(%d+):()', at)
    n = tonumber(n)
    if not n or from + n > #p + 1 then return {} end
    fields[#fields + 1] = string.sub(p, from, from + n - 1)
    at = from + n
  end
  if #fields % 2 == 1 then return {} end
  return fields
end

-- Answers what refuses a script whose keys somebody has overwritten: asked before
-- anything is written, because a script that ends in the middle is not taken back.
-- kinds are keys, each with its type.
local function overwritten(kinds)
  for i = 1, #kinds, 2 do
    local is = redis.call('TYPE', kinds[i])
    if type(is) == 'table' then is = is.ok end
    if is ~= 'none' and is ~= kinds[i + 1] then
      return {-2, 'WRONGTYPE ' .. kinds[i] .. ' is a ' .. is .. ', not a ' .. kinds[i + 1]}
    end
  end
end

-- The server's time in milliseconds.
local function clock()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
