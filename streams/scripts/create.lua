-- Creates a group. KEYS: events, ledger, counts, parked, dead. ARGV: group.
-- Answers {1, 1 when it was missing}.
local created, err = create(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1])
if err then return {-2, err} end
return {1, created and 1 or 0}
