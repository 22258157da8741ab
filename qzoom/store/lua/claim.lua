-- Find what is known of a request with an Idempotency-Key; what nobody holds any more is new.
--   KEYS  claim: a hash fingerprint, owner, expires, answer
--   ARGV  now (empty: the server's time), fingerprint, owner, seconds of the lease
--   gives state, and the answer if there is one
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end
local known = redis.call('HMGET', KEYS[1], 'fingerprint', 'owner', 'expires', 'answer')
if not known[1] or tonumber(known[3]) <= now then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'owner', ARGV[3],
    'expires', string.format('%.6f', now + tonumber(ARGV[4])))
  redis.call('EXPIRE', KEYS[1], math.ceil(tonumber(ARGV[4])) + 60)
  return {'new'}
end
if known[1] ~= ARGV[2] then return {'other'} end
if known[4] then return {'answered', known[4]} end
if known[2] == ARGV[3] then return {'new'} end
return {'running'}
