-- Correct what was counted for a request, if it still counts, and free its place.
--   KEYS  usage, leases (lua/admit.lua)
--   ARGV  lease, second, corrections of 3 resources
for resource = 1, 3 do
  local field = ARGV[2] .. ':' .. resource
  if redis.call('HEXISTS', KEYS[1], field) == 1 then
    redis.call('HINCRBY', KEYS[1], field, ARGV[2 + resource])
  end
end
redis.call('ZREM', KEYS[2], ARGV[1])
