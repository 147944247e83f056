-- KEYS: lease. ARGV: owner, epoch.
if not owned() then return {0} end
redis.call('DEL', KEYS[1])
return {1}
