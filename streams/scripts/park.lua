-- Moves deliveries out of the stream until they are due, or gives those that are
-- out already another time. KEYS: lease, events, attempts, parked, parcels, counts.
-- ARGV: owner, epoch, group, then id, ms to wait or '' to follow the one before,
--       attempts for each.
-- Answers {1, moved, ids lost, ids absent}. Lost are those whose entry is no longer
-- in the stream, absent those that are neither pending nor parked: settled before,
-- or not delivered yet by a group that was created again. The count of attempts is
-- set, not added to: sending again changes nothing.
if not owned() then return {0} end
local no = overwritten({KEYS[2], 'stream', KEYS[3], 'hash', KEYS[4], 'zset', KEYS[5], 'hash', KEYS[6], 'hash'})
if no then return no end
local now = clock()
local moved, lost, absent, merged = 0, {}, {}, 0
for i = 4, #ARGV, 3 do
  local id, wait, attempts = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local p = redis.pcall('XPENDING', KEYS[2], ARGV[3], id, id, 1)
  local pending = not p.err and #p == 1
  local kept = redis.call('HGET', KEYS[5], id)
  -- A group that was created again had it in both places.
  if kept and pending then merged = merged + 1 end
  if not kept and pending then
    local e = redis.call('XRANGE', KEYS[2], id, id)[1]
    if e then
      kept = parcel(attempts, e[2])
    else
      lost[#lost + 1] = id
      redis.call('HDEL', KEYS[3], id)
    end
  elseif not kept then
    absent[#absent + 1] = id
  else
    local _, key, at = label(kept)
    kept = attempts .. ' ' .. #key .. ' ' .. key .. string.sub(kept, at)
  end
  if kept then
    local due = '0'
    if wait ~= '' then due = string.format('%.0f', now + tonumber(wait)) end
    redis.call('HSET', KEYS[5], id, kept)
    redis.call('ZADD', KEYS[4], due, id)
    if attempts == '0' then
      redis.call('HDEL', KEYS[3], id)
    else
      redis.call('HSET', KEYS[3], id, attempts)
    end
    moved = moved + 1
  end
  if pending then redis.call('XACK', KEYS[2], ARGV[3], id) end
end
if #lost > 0 then redis.call('HINCRBY', KEYS[6], 'lost', #lost) end
if merged > 0 then redis.call('HINCRBY', KEYS[6], 'base', -merged) end
return {1, moved, lost, absent}
