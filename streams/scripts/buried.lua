-- Tells the entries that became dead letters. KEYS: dead. ARGV: id to begin with, how many
-- dead letters to look at.
-- Answers {1, entry ids, id of the last dead letter looked at or '' after the last one}.
local page = redis.pcall('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
if page.err then return {-2, page.err} end
local ids = {}
for i, e in ipairs(page) do ids[i] = e[2][2] end
return {1, ids, #page == tonumber(ARGV[2]) and page[#page][1] or ''}
