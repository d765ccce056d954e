-- Looks an entry up; where it is not fresh, takes the lease to fill it, unless somebody else has that.
--
-- KEYS: the entry, its lease, the flow's freshness, then the tokens that the entry depends on.
-- ARGV: a value that nobody ever drew before; milliseconds of a lease; milliseconds of a token that nobody uses.
-- Answers: the server's time in microseconds, 'fresh', 'leased' or 'taken', the tokens, the freshness (leased or taken),
-- and the entry's read_at_us, fresh_until_us, is_none, value, as_of_us, tokens (nothing where there is none).

local seconds, microseconds = unpack(redis.call('TIME'))
local now_us = tonumber(seconds) * 1000000 + tonumber(microseconds)
local now_text = string.format('%.0f', now_us)

local entry = redis.call('HMGET', KEYS[1], 'read_at_us', 'fresh_until_us', 'is_none', 'value', 'as_of_us', 'tokens')
local tokens = redis.call('MGET', unpack(KEYS, 4))
local are_all_there = true
for _, token in ipairs(tokens) do
    are_all_there = are_all_there and token
end

if entry[1] and are_all_there and entry[6] == table.concat(tokens, ',') and now_us < tonumber(entry[2]) then
    return {now_text, 'fresh', entry[6], {}, entry}
end

local freshness = redis.call('HGETALL', KEYS[3])
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
    return {now_text, 'taken', '', freshness, entry}
end
for number, token in ipairs(tokens) do
    local key = KEYS[3 + number]
    if token then
        redis.call('PEXPIRE', key, ARGV[3], 'GT')
    else
        tokens[number] = ARGV[1]
        redis.call('SET', key, ARGV[1], 'PX', ARGV[3])
    end
end
return {now_text, 'leased', table.concat(tokens, ','), freshness, entry}
