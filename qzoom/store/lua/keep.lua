-- Keep an answer, unless its claim belongs to another attempt; then let the oldest go until all fit.
--   KEYS  claim (lua/claim.lua); all answers, and the tenant's: sorted sets of "<tenant>:<key>" by
--         the time at which they were kept; sizes: a hash of "<tenant>:<key>" -> bytes; totals: a
--         hash of tenant -> bytes, "*" for all
--   ARGV  now (empty: the server's time), fingerprint, owner, seconds to keep, answer, tenant, key,
--         most bytes of the tenant, most bytes of all, prefix of claims, prefix of tenants' sets
local claim, all, own, sizes, totals = unpack(KEYS)
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end
local keep_s, answer, tenant = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local member = tenant .. ':' .. ARGV[7]
local known = redis.call('HMGET', claim, 'owner', 'answer', 'expires')
if known[1] and (known[1] ~= ARGV[3] or known[2]) and tonumber(known[3]) > now then return end

local function forget(name)
  local size = redis.call('HGET', sizes, name)
  if not size then return end
  local whose = string.match(name, '^([^:]*):')
  redis.call('HDEL', sizes, name)
  redis.call('ZREM', all, name)
  redis.call('ZREM', ARGV[11] .. whose, name)
  if redis.call('HINCRBY', totals, whose, -size) <= 0 then redis.call('HDEL', totals, whose) end
  redis.call('HINCRBY', totals, '*', -size)
  redis.call('DEL', ARGV[10] .. name)
end

forget(member)
-- Answers whose time is over have gone by themselves, or will now; all are kept equally long.
for _, name in ipairs(redis.call('ZRANGEBYSCORE', all, '-inf', now - keep_s, 'LIMIT', 0, 1000)) do
  forget(name)
end
redis.call('DEL', claim)
redis.call('HSET', claim, 'fingerprint', ARGV[2], 'owner', ARGV[3],
  'expires', string.format('%.6f', now + keep_s), 'answer', answer)
redis.call('EXPIRE', claim, math.ceil(keep_s) + 60)
redis.call('ZADD', all, string.format('%.6f', now), member)
redis.call('ZADD', own, string.format('%.6f', now), member)
redis.call('HSET', sizes, member, #answer)
redis.call('HINCRBY', totals, tenant, #answer)
redis.call('HINCRBY', totals, '*', #answer)
while tonumber(redis.call('HGET', totals, tenant) or 0) > tonumber(ARGV[8]) do
  forget(redis.call('ZRANGE', own, 0, 0)[1])
end
while tonumber(redis.call('HGET', totals, '*') or 0) > tonumber(ARGV[9]) do
  forget(redis.call('ZRANGE', all, 0, 0)[1])
end
