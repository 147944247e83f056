-- Sets a group back to the first entry that the stream has: its effect store has gone back
-- to an earlier state. KEYS: lease, events, ledger, counts, parked, dead, attempts, parcels.
-- ARGV: owner, epoch, group, the position that the effect store has now.
-- Answers {1, entries that it is given again, the first of them or ''}.
if not owned() then return {0} end
-- What is parked comes again from the stream, in its place: parked, it would be applied
-- before older events of its order that are given again.
for _, id in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
  if #redis.call('XRANGE', KEYS[2], id, id) == 1 then
    redis.call('ZREM', KEYS[5], id)
    redis.call('HDEL', KEYS[8], id)
    redis.call('HDEL', KEYS[7], id)
  end
end
redis.call('XGROUP', 'DESTROY', KEYS[2], ARGV[3])
local _, err = create(KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], ARGV[3])
if err then return {-2, err} end
redis.call('HSET', KEYS[4], 'position', ARGV[4])
redis.call('HINCRBY', KEYS[4], 'rewound', 1)
local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
return {1, redis.call('XLEN', KEYS[2]), first and first[1] or ''}
