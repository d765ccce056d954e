-- Fills an entry, if its lease still stands and no token that it depends on has changed since.
--
-- KEYS: the entry, its lease, then the tokens that the entry depends on.
-- ARGV: the lease; the tokens that were seen with it; milliseconds that the entry is kept; then fields and values.
-- Answers whether it was filled.

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
    return 0
end
redis.call('UNLINK', KEYS[2])
local tokens = redis.call('MGET', unpack(KEYS, 3))
for _, token in ipairs(tokens) do
    if not token then
        return 0
    end
end
if table.concat(tokens, ',') ~= ARGV[2] then
    return 0
end
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'tokens', ARGV[2], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
