-- One counter of a limit, read and changed in one step. The arithmetic is that of algorithms.rs; `now` is a moment in µs.
--
-- KEYS[1] names the counter. Its value is four whole numbers: the moment of its birth, then of GCRA the arrival (the µs, the
-- ns within, 0), of a window its start (µs), what was spent in it and what in the one before. No number here passes 2^53.
--
-- ARGV: the action, the algorithm (the order of both is below), four numbers of the rule, and
--   to peek or spend: what the caller remembers of the counter, as the value. Returns now, the birth, and the three numbers
--                     of the cell from which one is spent;
--   to refund:        the moment of the spending and what it took, as two numbers.

local floor, max, min = math.floor, math.max, math.min
local action = ({ 'peek', 'spend', 'refund' })[tonumber(ARGV[1])]
local algorithm = ({ 'gcra', 'sliding_window', 'fixed_window' })[tonumber(ARGV[2])]
local gcra = algorithm == 'gcra'
local rule = {}
for i = 1, 4 do
    rule[i] = tonumber(ARGV[2 + i])
end
local step, step_ns, span, span_ns = rule[1], rule[2], rule[3], rule[4]
local width, limit = rule[1], rule[2]

-- A value of any other form, or of any other type than a string, is one that nobody here has written.
local function read(text)
    if type(text) ~= 'string' then
        return nil
    end
    local born, at, low, before = string.match(text, '^(%d+) (%d+) (%d+) (%d+)$')
    if not born then
        return nil
    end
    local most, count = 9007199254740991, 4294967295
    return {
        born = min(tonumber(born), most),
        at = min(tonumber(at), most),
        low = min(tonumber(low), count),
        before = min(tonumber(before), count),
    }
end

local function written(cell)
    return string.format('%.0f %.0f %.0f %.0f', cell.born, cell.at, cell.low, cell.before)
end

-- The cell as it stands in the window that begins at `start`. One from further ahead than the window that follows was
-- written before the clock was set back: what it counts, counts now.
local function rolled(cell, start)
    if cell.at > start + width then
        cell.at = start
    elseif start - cell.at == width then
        cell.at, cell.low, cell.before = start, 0, cell.low
    elseif start > cell.at then
        cell.at, cell.low, cell.before = start, 0, 0
    end
end

local function is_later(at, ns, than, than_ns)
    return at > than or (at == than and ns > than_ns)
end

-- Takes over from `other` what it has counted more.
local function merge(cell, other)
    if gcra then
        if is_later(other.at, other.low, cell.at, cell.low) then
            cell.at, cell.low = other.at, other.low
        end
        return
    end
    local start = max(cell.at, other.at)
    rolled(cell, start)
    rolled(other, start)
    cell.low, cell.before = max(cell.low, other.low), max(cell.before, other.before)
end

-- Brings the cell to this moment. No arrival lies further ahead than the rule's span, unless the clock was set back or the
-- rule was another: nobody waits longer for that.
local function settle(cell)
    if not gcra then
        rolled(cell, now - now % width)
        if algorithm == 'fixed_window' then
            cell.before = 0
        end
    elseif is_later(cell.at, cell.low, now + span, span_ns) then
        cell.at, cell.low = now + span, span_ns
    end
end

-- A product as three digits to the base 2^20, the highest first: as one number it would not be exact.
local function product(count, time)
    local base = 1048576
    local low = count * (time % base)
    local rest = floor(time / base)
    local middle = count * (rest % base) + floor(low / base)
    return count * floor(rest / base) + floor(middle / base), middle % base, low % base
end

-- Whether a * b <= c * d.
local function is_no_more(a, b, c, d)
    local a3, a2, a1 = product(a, b)
    local c3, c2, c1 = product(c, d)
    if a3 ~= c3 then
        return a3 < c3
    end
    if a2 ~= c2 then
        return a2 < c2
    end
    return a1 <= c1
end

local function spend(cell)
    if gcra then
        local at, ns = cell.at, cell.low
        if at < now then
            at, ns = now, 0
        end
        ns = ns + step_ns
        at, ns = at + step + floor(ns / 1000), ns % 1000
        if not is_later(at - now, ns, span, span_ns) then
            cell.at, cell.low = at, ns
        end
        return
    end
    local left = width - min(max(now - cell.at, 0), width)
    if cell.low < limit and is_no_more(cell.before, left, limit - cell.low - 1, width) then
        cell.low = cell.low + 1
    end
end

-- How long the cell is worth anything, in ms.
local function life(cell)
    local till = cell.at
    if algorithm == 'fixed_window' then
        till = cell.at + width
    elseif not gcra then
        till = cell.at + 2 * width
    end
    return max(floor((till - now) / 1000), 0) + 1
end

local function refund(cell, spent_at, taken, taken_ns)
    local start = spent_at - spent_at % width
    if gcra then
        if is_later(cell.at, cell.low, spent_at, 0) then
            local ns = cell.low - taken_ns
            cell.at, cell.low = cell.at - taken + floor(ns / 1000), ns % 1000
            if cell.at < 0 then
                cell.at, cell.low = 0, 0
            end
        end
    elseif start == cell.at then
        cell.low = max(cell.low - taken, 0)
    elseif start + width == cell.at then
        cell.before = max(cell.before - taken, 0)
    end
end

local text = redis.pcall('GET', KEYS[1])
local cell = read(text)

if action == 'refund' then
    if cell then
        refund(cell, tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]))
        redis.call('SET', KEYS[1], written(cell), 'XX', 'KEEPTTL')
    end
    return {}
end

local known = { born = tonumber(ARGV[7]), at = tonumber(ARGV[8]), low = tonumber(ARGV[9]), before = tonumber(ARGV[10]) }
-- Another birth than the caller remembers: the server has lost the counter. What the caller has seen of it is not forgotten.
-- Otherwise the stored one is right even where it counts less: another node has given something back.
local lost = not cell or cell.born ~= known.born
cell = cell or { born = now, at = 0, low = 0, before = 0 }
if lost then
    settle(cell)
    settle(known)
    merge(cell, known)
end
settle(cell)
local from = { now, cell.born, cell.at, cell.low, cell.before }
if action == 'spend' then
    spend(cell)
    if written(cell) ~= text then
        redis.call('SET', KEYS[1], written(cell), 'PX', string.format('%.0f', life(cell)))
    end
end
return from
