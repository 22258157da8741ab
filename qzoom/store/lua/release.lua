-- Forget a claim that has no answer and belongs to this attempt.
--   KEYS  claim (lua/claim.lua)
--   ARGV  owner
local known = redis.call('HMGET', KEYS[1], 'owner', 'answer')
if known[1] == ARGV[1] and not known[2] then redis.call('DEL', KEYS[1]) end
