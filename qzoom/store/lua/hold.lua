-- Renew a claim; one that expired and was not taken by another attempt is taken again.
--   KEYS, ARGV  as in lua/claim.lua
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end
local known = redis.call('HMGET', KEYS[1], 'owner', 'answer', 'expires')
if known[1] and (known[1] ~= ARGV[3] or known[2]) and tonumber(known[3]) > now then return end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'owner', ARGV[3],
  'expires', string.format('%.6f', now + tonumber(ARGV[4])))
redis.call('EXPIRE', KEYS[1], math.ceil(tonumber(ARGV[4])) + 60)
