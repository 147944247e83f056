-- Ends a dead letter for good. KEYS: dead, counts. ARGV: id of the dead letter.
-- Answers {1, what became of it}.
local no = overwritten({KEYS[1], 'stream', KEYS[2], 'hash'})
if no then return no end
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return {1, 'missing'} end
redis.call('HINCRBY', KEYS[2], 'dropped', 1)
return {1, 'dropped'}
