-- Looks for marks that former partitions hold: after a change of their number an event
-- is of another one, and a resend of it would not be known there.
-- KEYS: for each record the ring of buckets of its former partition.
-- ARGV: for each record its mark.
-- Answers for each record 0 unknown, 2 duplicate, 3 conflict.
local ring = #KEYS / #ARGV
local answers = {}
for m = 1, #ARGV do
  local mark, outcome = ARGV[m], nil
  for i = (m - 1) * ring + 1, m * ring do
    local held = not outcome and tonumber(call('HGET', KEYS[i], 'marks') or '')
    if held then
      local n = floor(held / 8) + 1
      local row = call('HGET', KEYS[i], place(spread(mark), n, power(n)))
      outcome = row and known(row, sub(mark, 1, 12), mark)
    end
  end
  answers[m] = outcome or 0
end
return answers
