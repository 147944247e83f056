-- Tells what is parked, without its contents, soonest first. KEYS: lease, attempts,
-- parked, parcels. ARGV: owner, epoch, first, last (places in the schedule).
-- Answers {1, {id, ms until due, key, attempts known, attempts or false, bytes}, ...}.
-- What follows the one before it was due long ago: its time is 0.
if not owned() then return {0} end
local now = clock()
local out = {1}
local page = redis.call('ZRANGE', KEYS[3], ARGV[3], ARGV[4], 'WITHSCORES')
for i = 1, #page, 2 do
  local id, wait, attempts, key, size = page[i], 0, '0', '', 0
  local due = tonumber(page[i + 1])
  if due > now then wait = due - now end
  local kept = redis.call('HGET', KEYS[4], id)
  if kept then
    attempts, key = label(kept)
    size = #kept
  end
  out[#out + 1] = {id, string.format('%.0f', wait), key, attempts, redis.call('HGET', KEYS[2], id), size}
end
return out
