-- Moves a dead letter into its group's parked list, due now. It is fenced by no
-- lease: it takes nothing from the owner of the partition, who learns of it by the
-- count of replays. KEYS: dead, attempts, parked, parcels, counts.
-- ARGV: id of the dead letter, its name for people, how much may be parked for it to be
--       replayed.
-- Answers {1, what became of it}.
local no = overwritten({KEYS[1], 'stream', KEYS[2], 'hash', KEYS[3], 'zset', KEYS[4], 'hash', KEYS[5], 'hash'})
if no then return no end
-- Replays must not take up the room that the group's own retries need.
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[3]) then return {1, 'full'} end
local e = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not e then return {1, 'missing'} end
local id = e[2][2]
-- The first seven fields are the dead letter's own (settle.lua), the rest the event's.
local fields = {}
for i = 15, #e[2], 2 do
  if e[2][i] ~= 'replay_of' then
    fields[#fields + 1] = e[2][i]
    fields[#fields + 1] = e[2][i + 1]
  end
end
if #fields == 0 then return {1, 'empty'} end
-- A group that was created again may owe the event already.
if redis.call('HEXISTS', KEYS[4], id) == 1 and redis.call('ZSCORE', KEYS[3], id) then return {1, 'owed'} end
fields[#fields + 1] = 'replay_of'
fields[#fields + 1] = ARGV[2]
redis.call('HDEL', KEYS[2], id)
redis.call('HSET', KEYS[4], id, parcel('0', fields))
redis.call('ZADD', KEYS[3], string.format('%.0f', clock()), id)
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('HINCRBY', KEYS[5], 'replayed', 1)
return {1, 'replayed'}
