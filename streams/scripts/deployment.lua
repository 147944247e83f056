-- Makes the record of a deployment unless there is one, and answers what it says.
-- KEYS: deployment. ARGV: id, partitions, layout, oldest format; see deployment.go.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'id', ARGV[1], 'partitions', ARGV[2], 'layout', ARGV[3], 'oldest_format', ARGV[4])
end
return redis.call('HMGET', KEYS[1], 'id', 'partitions', 'layout', 'oldest_format', 'generation', 'former', 'change')
