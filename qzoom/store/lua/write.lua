-- Write or remove one field of a bounded hash, and say that the configuration has changed.
--   KEYS  the hash, version
--   ARGV  new version, most fields, field, value (none: remove)
--   gives the number of fields if there are too many, else -1
if ARGV[4] then
  local count = redis.call('HLEN', KEYS[1])
  if count >= tonumber(ARGV[2]) and redis.call('HEXISTS', KEYS[1], ARGV[3]) == 0 then
    return count
  end
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
else
  redis.call('HDEL', KEYS[1], ARGV[3])
end
redis.call('SET', KEYS[2], ARGV[1])
return -1
