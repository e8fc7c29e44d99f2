-- The moment, in microseconds since 1970: one clock for every node.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
