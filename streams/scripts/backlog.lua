-- Tells the caller's own pending entries. KEYS: lease, events, attempts.
-- ARGV: owner, epoch, group, consumer, start id, count.
-- Answers {1, id, attempts or false, ...}. XREADGROUP with an id would not do: one engine
-- ignores its COUNT and leaves out entries that are no longer in the stream.
if not owned() then return {0} end
local page = redis.pcall('XPENDING', KEYS[2], ARGV[3], ARGV[5], '+', ARGV[6], ARGV[4])
local no = refused(page)
if no then return no end
if #page == 0 then return {1} end
local ids = {}
for i, p in ipairs(page) do ids[i] = p[1] end
local attempts = redis.call('HMGET', KEYS[3], unpack(ids))
local out = {1}
for i, id in ipairs(ids) do
  out[2 * i] = id
  out[2 * i + 1] = attempts[i]
end
return out
