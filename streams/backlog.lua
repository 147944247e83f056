-- Reads the caller's own pending entries. KEYS: lease, events, attempts.
-- ARGV: owner, epoch, group, consumer, start id, count.
-- Answers {1, {id, attempts or false, fields or false}, ...}; fields are false
-- when the entry is no longer in the stream. XREADGROUP with an id would not do:
-- one engine ignores its COUNT and leaves such entries out.
if not owned() then return {0} end
local page = redis.pcall('XPENDING', KEYS[2], ARGV[3], ARGV[5], '+', ARGV[6], ARGV[4])
local no = refused(page)
if no then return no end
local out = {1}
for _, p in ipairs(page) do
  local e = redis.call('XRANGE', KEYS[2], p[1], p[1])
  out[#out + 1] = {p[1], redis.call('HGET', KEYS[3], p[1]), e[1] and e[1][2] or false}
end
return out
