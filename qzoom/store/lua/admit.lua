-- Let a request begin and count it, or refuse it and count nothing (qzoom/store/window.py).
--   KEYS  usage: a hash of "<second>:<resource>" -> amount; leases: a sorted set by expiry
--   ARGV  now (empty: the server's time), lease, seconds of the lease, window in seconds,
--         amounts of 3 resources, limits of 3 resources and of the concurrency (empty: none)
--   gives refused_by ("", "1".."3", "concurrency"), retry_after, used x 3, reset x 3, running, second
local usage_key, leases_key = KEYS[1], KEYS[2]
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end
local lease, lease_s, window = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local second = math.floor(now)

-- What counts: {second, amount} by resource, the oldest first.
local usage, used, old = {{}, {}, {}}, {0, 0, 0}, {}
local flat = redis.call('HGETALL', usage_key)
for i = 1, #flat, 2 do
  local at, resource = string.match(flat[i], '^(%d+):(%d)$')
  at, resource = tonumber(at), tonumber(resource)
  local amount = tonumber(flat[i + 1])
  if at < second - window then
    old[#old + 1] = flat[i]
  else
    table.insert(usage[resource], {at, amount})
    used[resource] = used[resource] + amount
  end
end
for _, field in ipairs(old) do redis.call('HDEL', usage_key, field) end
redis.call('ZREMRANGEBYSCORE', leases_key, '-inf', string.format('%.6f', now))
local running = redis.call('ZCARD', leases_key)

-- The limit that keeps the request out for longest.
local refused_by, retry_after = '', 0
for resource = 1, 3 do
  local amount, limit = tonumber(ARGV[4 + resource]), tonumber(ARGV[7 + resource])
  table.sort(usage[resource], function(a, b) return a[1] < b[1] end)
  if limit and used[resource] + amount > limit then
    local excess, wait = used[resource] + math.min(amount, limit) - limit, 0
    for _, entry in ipairs(usage[resource]) do
      if excess <= 0 then break end
      excess = excess - entry[2]
      if excess <= 0 then wait = math.max(0, entry[1] + window + 1 - now) end
    end
    if refused_by == '' or wait > retry_after then
      refused_by, retry_after = tostring(resource), wait
    end
  end
end
local most = tonumber(ARGV[11])
if refused_by == '' and most and running >= most then
  refused_by, retry_after = 'concurrency', 1
end

if refused_by == '' then
  for resource = 1, 3 do
    local amount = tonumber(ARGV[4 + resource])
    redis.call('HINCRBY', usage_key, string.format('%d:%d', second, resource), amount)
    used[resource] = used[resource] + amount
    table.insert(usage[resource], {second, amount})
  end
  redis.call('EXPIRE', usage_key, 2 * window)
  redis.call('ZADD', leases_key, string.format('%.6f', now + lease_s), lease)
  redis.call('EXPIRE', leases_key, math.ceil(lease_s) + window)
  running = running + 1
end

local reply = {refused_by, string.format('%.3f', retry_after)}
for resource = 1, 3 do reply[#reply + 1] = string.format('%d', used[resource]) end
for resource = 1, 3 do
  local reset = 0
  for _, entry in ipairs(usage[resource]) do
    if entry[2] > 0 then reset = math.max(reset, entry[1] + window + 1 - now) end
  end
  reply[#reply + 1] = string.format('%.3f', reset)
end
reply[#reply + 1] = string.format('%d', running)
reply[#reply + 1] = string.format('%d', second)
return reply
