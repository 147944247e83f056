-- Closes the gates of all partitions for a change of their number, or keeps them closed.
-- A gate opens by itself when its time is over. KEYS: deployment, then the ledger of each
-- partition. ARGV: token of the change, number of partitions that there are, number that
-- there are to be, generation, time in ms.
-- Answers {1, 'closed'}, {1, 'held', ms left, number that there are to be} while another
-- change is under way, or {1, 'changed'} where the number or the generation is another one.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local d = redis.call('HMGET', KEYS[1], 'partitions', 'generation', 'change')
if d[1] ~= ARGV[2] or (d[2] or '0') ~= ARGV[4] then return {1, 'changed'} end
local token, to, ends = string.match(d[3] or '', '^(%S+) (%d+) (%d+)$')
if token and token ~= ARGV[1] and tonumber(ends) > now then
  return {1, 'held', math.ceil(tonumber(ends) - now), tonumber(to)}
end
ends = string.format('%.0f', now + tonumber(ARGV[5]))
redis.call('HSET', KEYS[1], 'change', ARGV[1] .. ' ' .. ARGV[3] .. ' ' .. ends)
for i = 2, #KEYS do
  local appended = redis.call('HGET', KEYS[i], 'appended')
  if appended ~= 'closed' then
    -- What is no number cannot be added to (append.lua).
    redis.call('HSET', KEYS[i], 'appended', 'closed', 'counted', appended or '0', 'open', ARGV[4], 'plain', 1)
  end
  redis.call('HSET', KEYS[i], 'until', ends)
end
return {1, 'closed'}
