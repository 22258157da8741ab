-- Mark a key as revoked, once.
--   KEYS  keys: a hash of id -> record as JSON; version
--   ARGV  new version, id, Unix time
--   gives the record, or nothing if there is none
local text = redis.call('HGET', KEYS[1], ARGV[2])
if not text then return false end
local changed, count = string.gsub(text, '"revoked": null', '"revoked": ' .. ARGV[3])
if count == 1 then
  redis.call('HSET', KEYS[1], ARGV[2], changed)
  redis.call('SET', KEYS[2], ARGV[1])
  return changed
end
return text
