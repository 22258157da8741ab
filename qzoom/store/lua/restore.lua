-- Write keys and settings back into a store that has lost everything; one that has not stays.
--   KEYS  keys, settings, version
--   ARGV  version, number of keys, then id and record of each, then name and value of each setting
--   gives 1 if it was written
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local settings_from = 3 + 2 * tonumber(ARGV[2])
for i = 3, settings_from - 1, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
for i = settings_from, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('SET', KEYS[3], ARGV[1])
return 1
