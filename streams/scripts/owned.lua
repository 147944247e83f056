-- Goes before every fenced script. KEYS[1] is the lease, ARGV[1] the owner and
-- ARGV[2] the epoch that the caller believes to hold.
local function owned()
  local l = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
  return l[1] == ARGV[1] and l[2] == ARGV[2]
end

-- Turns the error of a command into the script's answer; nil where there is none.
local function refused(r)
  if type(r) ~= 'table' or not r.err then return nil end
  if string.find(r.err, 'NOGROUP', 1, true) then return {-1} end
  return {-2, r.err}
end
