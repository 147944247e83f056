-- Drops consumers that owe nothing and have been idle. Dropping one that has
-- pending entries would drop those too. KEYS: lease, events.
-- ARGV: owner, epoch, group, consumer, idle time in ms. Answers {1, name, ...}.
if not owned() then return {0} end
local r = redis.pcall('XINFO', 'CONSUMERS', KEYS[2], ARGV[3])
local no = refused(r)
if no then return no end
local out = {1}
for _, c in ipairs(r) do
  local m = {}
  for i = 1, #c, 2 do m[c[i]] = c[i + 1] end
  if m['pending'] == 0 and m['name'] ~= ARGV[4] and m['idle'] >= tonumber(ARGV[5]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[2], ARGV[3], m['name'])
    out[#out + 1] = m['name']
  end
end
return out
