/**
 * The scripts that Redis runs. Each takes the keys of one room, or of no room, and is atomic.
 *
 * Numbers are written with `%.0f`, since Lua would round large ones.
 *
 * @module
 */

import { EXCESS } from "../changes.ts";
import { REACHABLE_MS } from "../local_bus.ts";

/** Maximum epochs that a room remembers. */
const MAX_EPOCHS = 100;

/**
 * How long the answers to a batch are kept, in milliseconds: if it stored something, and if not.
 * Instances repeat a batch for a minute.
 */
const ANSWERS_MS = 5 * 60 * 1000;
const SHORT_ANSWERS_MS = 90 * 1000;

/**
 * How long the numbers of a room without messages and users are kept, in milliseconds: a little
 * longer than the steps of {@linkcode BASE}.
 */
const IDLE_MS = REACHABLE_MS + 1000;

/** How long an instance whose lease has ended is remembered, in milliseconds. */
const ENDED_MS = 7 * 24 * 60 * 60 * 1000;

/** The fields of a room's `meta`, in the order in which the scripts return them. */
export const META = ["g", "e", "s", "o", "t", "pv", "pr", "sv", "er", "n", "x"] as const;

const FIELDS = META.map((field) => `'${field}'`).join(", ");

const COMMON = `
local function whole(n) return string.format('%.0f', n) end
local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
local function isLate(deadline) return now() > tonumber(deadline) end
`;

/**
 * Where the numbers of presence begin in a room without any: at the time in microseconds, rounded
 * down to large steps, so that a reader of the empty room knows the first number of the user who
 * enters next. A room that was forgotten was idle for longer than a step, so no number is given
 * twice.
 */
const BASE = `
local function baseOf(clock)
  local seconds = clock == '' and tonumber(redis.call('TIME')[1]) or tonumber(clock) / 1000
  return math.floor(seconds / ${REACHABLE_MS / 1000}) * ${REACHABLE_MS * 1000}
end
`;

/**
 * Reads `meta`, and begins an epoch if the server's generation differs from the room's.
 * ARGV: generation, its time.
 */
const ROOM = `${COMMON}
local key = KEYS[1]
local m = redis.call('HMGET', key, ${FIELDS})
local isNew = m[1] ~= ARGV[1]
if isNew and m[1] and tonumber(string.match(m[1], '^%d+')) > tonumber(ARGV[2]) then
  return redis.error_reply('STALE the connection is older than the life of the server')
end
local seq, oldest, last = tonumber(m[3] or '0'), tonumber(m[4] or '1'), tonumber(m[5] or '0')
local presence, privates = tonumber(m[6] or '0'), tonumber(m[7] or '0')
local version, erasures = tonumber(m[8] or '0'), tonumber(m[9] or '0')
local number, epochs, epoch = tonumber(m[10] or '0'), m[11] or '', m[2]
if isNew then
  epoch = string.sub(redis.sha1hex(ARGV[1] .. '\\n' .. key), 1, 16)
  local base, before = tonumber(ARGV[2]), privates
  if presence < base then presence = base end
  if privates < base then privates = base end
  local lines, count = {}, 1
  lines[1] = epoch .. ' ' .. whole(seq + 1) .. ' ' .. whole(privates + 1) .. ' ' .. whole(before)
  for line in string.gmatch(epochs, '[^\\n]+') do
    if count == ${MAX_EPOCHS} then break end
    count = count + 1
    lines[count] = line
  end
  epochs = table.concat(lines, '\\n')
end
local function count() return presence + privates + version + erasures + number end
local counted = count()
local function save()
  redis.call('HSET', key, 's', whole(seq), 'o', whole(oldest), 't', whole(last))
  if isNew or count() ~= counted then
    redis.call('HSET', key, 'pv', whole(presence), 'pr', whole(privates), 'sv', whole(version),
      'er', whole(erasures), 'n', whole(number))
  end
  if isNew then redis.call('HSET', key, 'g', ARGV[1], 'e', epoch, 'x', epochs) end
end
`;

/** Drops the oldest private message of a person. */
const INBOXES = `
local function dropFirst(inbox, person, privates, refs)
  local number = redis.call('LPOP', inbox)
  local entry = redis.call('HGET', privates, number)
  if not entry then return end
  local flags, rest = string.match(entry, '^(%a*)(.*)$')
  local own, ref = string.match(rest, '^' .. string.rep('\\n[^\\n]*', 5) ..
    '\\n([^\\n]*)\\n[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n([^\\n]*)')
  local side = own == person and string.find(flags, 'f', 1, true) and 'f' or 't'
  flags = string.gsub(flags, side, '')
  if side == 'f' and ref ~= '' then redis.call('HDEL', refs, own .. '\\n' .. ref) end
  if flags == '' then redis.call('HDEL', privates, number)
  else redis.call('HSET', privates, number, flags .. rest) end
end
`;

/**
 * Runs the jobs of one room.
 *
 * KEYS: those of the room, the kept answers, the instance's connections, the inboxes named by jobs.
 * ARGV: as above, then channel, instance, batch, deadline, clock, keep, whether the room is
 * EVERYWHERE, the end of the instance's lease, and the jobs. A job is a letter, the rest of that
 * argument, and as many arguments as the letter takes.
 *
 * When a lease has ended, other instances read which rooms its instance has entered, and end its
 * presences there. So this script checks the lease by the same clock: nothing is entered later.
 *
 * Returns the epoch, the time, `left` if the instance has no connection left in the room, and the
 * answers.
 */
const TURN = `
local answersKey, ownKey = KEYS[12], KEYS[13]
local instance, batch, clock, keep = ARGV[4], ARGV[5], ARGV[7], tonumber(ARGV[8])
if not m[1] then presence = math.max(presence, baseOf(clock)) end
local kept = redis.call('GET', answersKey)
if kept then
  local cut = string.find(kept, '\\n', 1, true)
  if string.sub(kept, 1, cut - 1) == batch then return string.sub(kept, cut + 1) end
end
local real = now()
if real > tonumber(ARGV[6]) then return redis.error_reply('TOOLATE') end
last = math.max(last, clock == '' and real or tonumber(clock))
local time = whole(last)
local present = clock == '' and last or tonumber(clock)
local hasLease = (clock == '' and real or tonumber(clock)) <= tonumber(ARGV[10])
local log, refs = KEYS[2], KEYS[3]
local wasBare, storedBefore = seq == 0 and version == 0, seq + privates + version
local out, news, told, isChanged, hasLeft = { epoch, time, '' }, { epoch }, 1, false, false
local head = '\\n' .. time .. '\\n\\n' .. epoch .. '-'
local at = 10
local function take()
  at = at + 1
  return ARGV[at]
end
local function tell(item)
  told = told + 1
  news[told] = item
  isChanged = true
end
-- Messages of this batch that are not in the log yet, and their refs.
local queue, queuedRefs, stored = {}, {}, {}
local function flush()
  for i = 1, #queue, 256 do
    redis.call('RPUSH', log, unpack(queue, i, math.min(i + 255, #queue)))
  end
  for i = 1, #queuedRefs, 256 do
    redis.call('HSET', refs, unpack(queuedRefs, i, math.min(i + 255, #queuedRefs)))
  end
  queue, queuedRefs = {}, {}
end
local function find(id)
  flush()
  local n = tonumber(string.match(id, '%-(%d+)$'))
  if not n or n < oldest or n > seq then return end
  local entry = redis.call('LINDEX', log, n - oldest)
  if not entry then return end
  local kind, _, stamp, link, found, person, ref, name, reply = string.match(entry,
    '^(%a)\\n(%d+)\\n(%d+)\\n(%d*)\\n([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n')
  if found ~= id then return end
  return n, kind, stamp, link, person, ref, name, reply
end
local function keepAt(n, ...)
  if n >= oldest and n <= seq then redis.call('LSET', log, n - oldest, table.concat({ ... }, '\\n')) end
end
local run = {}
-- The stored seq of each ref in a run of messages, read at once.
local whose, first = {}, {}
local function look()
  local wanted, places = {}, {}
  local i = at
  while i <= #ARGV and #wanted < 256 and (i == at or string.sub(ARGV[i - 1], 1, 1) == 'a') do
    local who = string.match(ARGV[i], '^[^\\n]*\\n[^\\n]*')
    whose[i], first[i] = who, false
    if string.byte(who, -1) ~= 10 then
      wanted[#wanted + 1] = who
      places[#places + 1] = i
    end
    i = i + 2
  end
  if #wanted == 0 then return end
  for n, found in ipairs(redis.call('HMGET', refs, unpack(wanted))) do first[places[n]] = found end
end
function run.a(origin)
  local rest = take()
  if not whose[at] then look() end
  local who, known = whose[at], first[at]
  local hasRef = string.byte(who, -1) ~= 10
  if stored[who] then
    flush()
    known = stored[who]
  end
  if known then
    local entry = redis.call('LINDEX', log, tonumber(known) - oldest)
    if entry then return '=' .. entry end
  end
  local nameEnd = string.find(rest, '\\n', #who + 2, true)
  if string.byte(rest, nameEnd + 1) ~= 10 then
    local found, kind = find(string.match(rest, '^[^\\n]*', nameEnd + 1))
    if not found or (kind ~= 'c' and kind ~= 'd') then return '!answered' end
  end
  seq = seq + 1
  local n = whole(seq)
  local entry = 'c\\n' .. n .. head .. n .. '\\n' .. rest
  queue[#queue + 1] = entry
  if hasRef then
    stored[who] = n
    queuedRefs[#queuedRefs + 1] = who
    queuedRefs[#queuedRefs + 1] = n
  end
  tell('l' .. origin)
  tell(entry)
  return n
end
function run.c(origin)
  local type, id, changer, isModerator, content = take(), take(), take(), take(), take()
  local n, kind, stamp, link, person, ref, name, reply = find(id)
  if kind ~= 'c' then return '!message' end
  if person ~= changer and isModerator ~= '1' then return '!author' end
  seq = seq + 1
  local place, now = whole(seq), whole(n)
  if type == 'erase' then
    if ref ~= '' then
      redis.call('HDEL', refs, person .. '\\n' .. ref)
      whose, first, stored = {}, {}, {}
    end
    name, ref = '', ''
  end
  local entry = table.concat({ type == 'edit' and 'u' or 'x', place, time, now, id, changer, '', name,
    '', content }, '\\n')
  redis.call('RPUSH', log, entry)
  if type ~= 'edit' then kind, reply = 'd', '' end
  keepAt(n, kind, now, stamp, place, id, person, ref, name, reply, content)
  local old = link ~= '' and tonumber(link) >= oldest and redis.call('LINDEX', log, tonumber(link) - oldest)
  if old then
    local head = string.match(old, '^' .. string.rep('[^\\n]*\\n', 9))
    redis.call('LSET', log, tonumber(link) - oldest, head)
  end
  tell('l' .. origin)
  tell(entry)
  return 'u' .. entry
end
local function addTo(inbox, person)
  local n = tonumber(redis.call('HGET', KEYS[6], person) or '0') + 1
  redis.call('HSET', KEYS[6], person, whole(n))
  redis.call('RPUSH', inbox, whole(privates))
  return n
end
local function trimInbox(inbox, person)
  local excess = keep and redis.call('LLEN', inbox) - keep or 0
  for i = 1, math.min(excess, 8) do dropFirst(inbox, person, KEYS[4], KEYS[5]) end
end
function run.w(origin)
  local person, ref, to, id, name, toName, content = take(), take(), take(), take(), take(), take(), take()
  local from, inbox = KEYS[tonumber(take())], KEYS[tonumber(take())]
  local who = person .. '\\n' .. ref
  if ref ~= '' then
    local first = redis.call('HGET', KEYS[5], who)
    local entry = first and redis.call('HGET', KEYS[4], first)
    if entry then return '=' .. entry end
  end
  if to == '' then return '!nobody' end
  privates = privates + 1
  local fromSeq = addTo(from, person)
  local toSeq = addTo(inbox, to)
  local number = whole(privates)
  local entry = table.concat({ 'ft', number, id, time, whole(fromSeq), whole(toSeq), person, name, to,
    toName, ref, content }, '\\n')
  redis.call('HSET', KEYS[4], number, entry)
  if ref ~= '' then redis.call('HSET', KEYS[5], who, number) end
  trimInbox(from, person)
  trimInbox(inbox, to)
  tell('p' .. origin .. '\\n' .. entry)
  return 'p' .. entry
end
function run.e(connection)
  local name, person, username = take(), take(), take()
  if not hasLease then return '!lease' end
  local there = redis.call('HGET', KEYS[7], connection)
  if there then
    local of, position, rest = string.match(there, '^([^\\n]*)\\n(%d+)(.*)$')
    if of ~= instance then
      redis.call('HSET', KEYS[7], connection, instance .. '\\n' .. position .. rest)
      redis.call('ZADD', ownKey, position, connection)
    end
    return position
  end
  local holder = redis.call('HGET', KEYS[8], name)
  local count, who, rest = 0, person, username
  if holder then
    count, who, rest = string.match(holder, '^(%d+)\\n([^\\n]*)\\n(.*)$')
    if who ~= person then return '!name' end
  end
  redis.call('HSET', KEYS[8], name, whole(tonumber(count) + 1) .. '\\n' .. who .. '\\n' .. rest)
  redis.call('HDEL', KEYS[9], name)
  presence = presence + 1
  local entry = instance .. '\\n' .. whole(presence) .. '\\n' .. connection .. '\\n' .. name .. '\\n' ..
    person .. '\\n' .. username
  redis.call('HSET', KEYS[7], connection, entry)
  redis.call('ZADD', ownKey, whole(presence), connection)
  tell('e' .. entry)
  return whole(presence)
end
function run.x(connection)
  local there = redis.call('HGET', KEYS[7], connection)
  if not there then return '' end
  local of, _, _, name, person, username = string.match(there,
    '^([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n(.*)$')
  if of ~= instance then return '' end
  redis.call('HDEL', KEYS[7], connection)
  redis.call('ZREM', ownKey, connection)
  hasLeft = true
  local count, who, shown = string.match(redis.call('HGET', KEYS[8], name), '^(%d+)\\n([^\\n]*)\\n(.*)$')
  if count == '1' then
    redis.call('HDEL', KEYS[8], name)
    redis.call('HSET', KEYS[9], name, whole(present) .. '\\n' .. who .. '\\n' .. shown)
    redis.call('ZADD', KEYS[10], whole(present), name)
    for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[10], '-inf', whole(present - ${REACHABLE_MS}),
      'LIMIT', 0, 16)) do
      redis.call('ZREM', KEYS[10], gone)
      redis.call('HDEL', KEYS[9], gone)
    end
    redis.call('PEXPIRE', KEYS[9], ${REACHABLE_MS})
    redis.call('PEXPIRE', KEYS[10], ${REACHABLE_MS})
  else
    redis.call('HSET', KEYS[8], name, whole(tonumber(count) - 1) .. '\\n' .. who .. '\\n' .. shown)
  end
  presence = presence + 1
  tell('x' .. instance .. '\\n' .. whole(presence) .. '\\n' .. connection .. '\\n' .. name .. '\\n' ..
    person .. '\\n' .. username)
  return ''
end
function run.o(event)
  if ARGV[9] == '1' then number = number + 1 end
  told = told + 1
  news[told] = 'n' .. whole(number) .. '\\n' .. event
  isChanged = isChanged or ARGV[9] == '1'
  return ''
end
function run.S(before)
  local settings, owner = take(), take()
  if whole(version) ~= before then return '0' end
  version = version + 1
  redis.call('SET', KEYS[11], settings)
  redis.call('HSET', key, 'ow', owner)
  tell('s' .. settings)
  return '1'
end
function run.p()
  local list = redis.call('HVALS', KEYS[7])
  return #list == 0 and '[]' or cjson.encode(list)
end
function run.s(name)
  local holder = redis.call('HGET', KEYS[8], name)
  if holder then return string.match(holder, '^%d+\\n(.*)$') end
  local visit = redis.call('HGET', KEYS[9], name)
  if not visit then return '' end
  local ended, who = string.match(visit, '^(%d+)\\n(.*)$')
  return present - tonumber(ended) < ${REACHABLE_MS} and who or ''
end
function run.E(count)
  local list = redis.call('ZRANGE', ownKey, 0, tonumber(count) - 1)
  for _, connection in ipairs(list) do
    run.x(connection)
    redis.call('ZREM', ownKey, connection)
  end
  return whole(redis.call('ZCARD', ownKey))
end
while at < #ARGV do
  local job = take()
  out[#out + 1] = run[string.sub(job, 1, 1)](string.sub(job, 2))
end
flush()
local excess = keep and seq - oldest + 1 - keep or 0
if excess >= ${EXCESS} then
  local dropped, unused = redis.call('LPOP', log, math.min(excess, 1024, seq - oldest)), {}
  for _, gone in ipairs(dropped) do
    local who = string.match(gone, '^[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n([^\\n]*\\n[^\\n]*)\\n')
    if string.byte(who, -1) ~= 10 then unused[#unused + 1] = who end
  end
  for i = 1, #unused, 256 do
    redis.call('HDEL', refs, unpack(unused, i, math.min(i + 255, #unused)))
  end
  oldest = oldest + #dropped
end
if isChanged then save() end
if isChanged and wasBare and ARGV[9] ~= '1' then
  -- Nothing is stored in the room, so it expires once nobody is present, or was recently.
  local isEmpty = seq == 0 and version == 0 and redis.call('EXISTS', KEYS[6], KEYS[7]) == 0
  if isEmpty then redis.call('PEXPIRE', key, ${IDLE_MS}) else redis.call('PERSIST', key) end
end
if hasLeft and redis.call('EXISTS', ownKey) == 0 then out[3] = 'left' end
if told > 1 then redis.call('PUBLISH', ARGV[3], cjson.encode(news)) end
local answer = cjson.encode(out)
if batch ~= '' and told > 1 then
  local isStored = seq + privates + version > storedBefore
  redis.call('SET', answersKey, batch .. '\\n' .. answer, 'PX',
    isStored and ${ANSWERS_MS} or ${SHORT_ANSWERS_MS})
end
return answer
`;

/** Reads entries, and for each edit without its own text the entry of its message. */
const READ = `
local m = redis.call('HMGET', KEYS[1], ${FIELDS})
local oldest, seq = tonumber(m[4] or '1'), tonumber(m[3] or '0')
local function read(after, limit)
  local from = math.max(after + 1, oldest)
  if limit <= 0 or from > seq then return {}, {} end
  local entries, messages = redis.call('LRANGE', KEYS[2], from - oldest, from - oldest + limit - 1), {}
  for _, entry in ipairs(entries) do
    local link = string.match(entry, '^u\\n%d+\\n%d+\\n(%d+)\\n' .. string.rep('[^\\n]*\\n', 5) .. '$')
    if link and tonumber(link) >= oldest then
      messages[#messages + 1] = redis.call('LINDEX', KEYS[2], tonumber(link) - oldest)
    end
  end
  return entries, messages
end
`;

/** KEYS: meta, log. ARGV: after, limit. */
const EVENTS = `${READ}
local entries, messages = read(tonumber(ARGV[1]), tonumber(ARGV[2]))
return { m, entries, messages }
`;

/**
 * Searches messages from a number towards the oldest or the newest, over a limited number of
 * entries.
 *
 * KEYS: meta, log. ARGV: from, step, limit, maximum entries to search.
 */
const WALK = `
local function walk(from, step, limit, most)
  local found, walked = {}, 0
  if step < 0 then from = math.min(from, seq) else from = math.max(from, oldest) end
  while #found < limit and walked < most and from >= oldest and from <= seq do
    local size = math.min(128, most - walked)
    local first = step < 0 and math.max(from - size + 1, oldest) or from
    local last = step < 0 and from or math.min(from + size - 1, seq)
    local entries = redis.call('LRANGE', KEYS[2], first - oldest, last - oldest)
    for i = 1, #entries do
      local entry = entries[step < 0 and #entries + 1 - i or i]
      if #found < limit and string.sub(entry, 1, 1) == 'c' then found[#found + 1] = entry end
    end
    walked = walked + #entries
    from = step < 0 and first - 1 or last + 1
    if #entries == 0 then break end
  end
  return found, string.format('%.0f', from)
end
`;

const MESSAGES = `${READ}${WALK}
local found, from = walk(tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
return { m, found, from }
`;

/**
 * KEYS: meta, log, settings, presences. ARGV: events, messages, maximum entries to search, clock.
 */
const OPEN = `${READ}${WALK}${BASE}
if not m[1] then m[6] = string.format('%.0f', baseOf(ARGV[4])) end
local entries, messages = read(seq - tonumber(ARGV[1]), tonumber(ARGV[1]))
local found, from = walk(seq, -1, tonumber(ARGV[2]), tonumber(ARGV[3]))
return { m, entries, messages, found, from, redis.call('GET', KEYS[3]), redis.call('HVALS', KEYS[4]) }
`;

/**
 * KEYS: meta, log, settings, presences, private messages. ARGV: seq, presence, privates, settings,
 * limit, generation, its time, clock.
 */
const PAGE = `${READ}${BASE}
if not m[1] then m[6] = string.format('%.0f', baseOf(ARGV[8])) end
local limit = tonumber(ARGV[5])
local entries, messages = read(tonumber(ARGV[1]), limit)
local isNew = m[1] ~= ARGV[6]
local function beyond(n) return isNew and math.max(n, tonumber(ARGV[7])) or n end
local after, newest, wanted = tonumber(ARGV[3]), tonumber(m[7] or '0'), {}
local spans = {}
for first, before in string.gmatch(m[11] or '', '[^ ]+ %d+ (%d+) (%d+)') do
  table.insert(spans, 1, { tonumber(first), newest })
  newest = tonumber(before)
end
for _, span in ipairs(spans) do
  local n = math.max(span[1], after + 1)
  while n <= span[2] and #wanted < limit do
    wanted[#wanted + 1] = string.format('%.0f', n)
    n = n + 1
  end
end
local privates = #wanted > 0 and redis.call('HMGET', KEYS[5], unpack(wanted)) or {}
local settings = tonumber(m[8] or '0') ~= tonumber(ARGV[4]) and redis.call('GET', KEYS[3])
local present = beyond(tonumber(m[6] or '0')) ~= tonumber(ARGV[2]) and redis.call('HVALS', KEYS[4])
return { m, entries, messages, privates, wanted[limit] or false, settings, present }
`;

/** KEYS: meta, inboxes, inbox. ARGV: person, after, limit. */
const INBOX = `
local m = redis.call('HMGET', KEYS[1], ${FIELDS})
local last = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
local oldest = last - redis.call('LLEN', KEYS[3]) + 1
local from = math.max(tonumber(ARGV[2]) + 1, oldest)
local numbers = from <= last and redis.call('LRANGE', KEYS[3], from - oldest, from - oldest + tonumber(ARGV[3]) - 1) or {}
local entries = #numbers > 0 and redis.call('HMGET', KEYS[4], unpack(numbers)) or {}
return { m, string.format('%.0f', last), string.format('%.0f', from), numbers, entries }
`;

/**
 * Replaces entries of the log that have not changed since they were read.
 *
 * KEYS: meta, log, refs. ARGV: as for a room, then channel, the erased ids as JSON, and for each
 * entry `seq`, old entry, new entry.
 */
const REWRITE = `
for i = 5, #ARGV, 3 do
  local n, old, new = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  if n >= oldest and redis.call('LINDEX', KEYS[2], n - oldest) == old then
    redis.call('LSET', KEYS[2], n - oldest, new)
    local who = string.match(old, '^[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n([^\\n]*\\n[^\\n]*)\\n')
    if string.sub(who, -1) ~= '\\n' then redis.call('HDEL', KEYS[3], who) end
  end
end
if ARGV[4] ~= '' then
  erasures = erasures + 1
  save()
  redis.call('PUBLISH', ARGV[3], cjson.encode({ epoch, 'E' .. whole(erasures) .. '\\n' .. ARGV[4] }))
end
return 1
`;

/**
 * The same for private messages. An empty new entry removes the message.
 *
 * KEYS: private messages, their refs. ARGV: number, old entry, new entry, field of its ref.
 */
const REWRITE_PRIVATES = `
for i = 1, #ARGV, 4 do
  local n, old, new, who = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if redis.call('HGET', KEYS[1], n) == old then
    if new == '' then redis.call('HDEL', KEYS[1], n) else redis.call('HSET', KEYS[1], n, new) end
    if who ~= '' then redis.call('HDEL', KEYS[2], who) end
  end
end
return 1
`;

/**
 * Drops a person's old private messages, but not the newest one.
 *
 * KEYS: inbox, private messages, their refs. ARGV: person, clock, how long they are kept, maximum
 * messages to drop. Returns 1 if more may be old.
 */
const DROP_OLD = `
local before = (ARGV[2] == '' and now() or tonumber(ARGV[2])) - tonumber(ARGV[3])
for i = 1, tonumber(ARGV[4]) do
  if redis.call('LLEN', KEYS[1]) <= 1 then return 0 end
  local entry = redis.call('HGET', KEYS[2], redis.call('LINDEX', KEYS[1], 0))
  local time = entry and string.match(entry, '^[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n(%d+)')
  if time and tonumber(time) >= before then return 0 end
  dropFirst(KEYS[1], ARGV[1], KEYS[2], KEYS[3])
end
return 1
`;

/**
 * A token has the era of its account in which it was issued. When another era begins, all tokens of
 * the account end at once, however many there are. They are dropped when they expire.
 */
const ERAS = `
local function eraOf(eras, account) return redis.call('HGET', eras, account) or '0' end
local function findToken(tokens, eras, hash)
  local text = redis.call('HGET', tokens, hash)
  if not text then return end
  local account, era = string.match(text, '^%d+\\n(.*)\\n(%d+)$')
  return account and era == eraOf(eras, account) and text
end
`;

/** KEYS: tokens, eras. ARGV: hash. */
const TOKEN = `return findToken(KEYS[1], KEYS[2], ARGV[1])`;

/**
 * The tokens of an account's bots, three lines for each: its hash, when it was made, and its name.
 * The list may still have tokens that ended by their hash or with their era.
 */
const BOTS = `
local function botsOf(tokens, eras, bots, account)
  local found = {}
  local text = redis.call('HGET', bots, account) or ''
  for hash, created, name in string.gmatch(text, '([^\\n]*)\\n(%d+)\\n([^\\n]*)\\n') do
    if findToken(tokens, eras, hash) then table.insert(found, { hash, created, name }) end
  end
  return found
end
`;

/** KEYS: tokens, eras, bots. ARGV: account. */
const BOT_TOKENS = `return botsOf(KEYS[1], KEYS[2], KEYS[3], ARGV[1])`;

/**
 * Changes accounts and tokens.
 *
 * KEYS: meta of EVERYWHERE, accounts, tokens, expiries, erasing, eras, bots. ARGV: as for a room,
 * then channel, deadline, clock, what to do, and its arguments.
 */
const PEOPLE = `
if isLate(ARGV[4]) then return redis.error_reply('TOOLATE') end
local accounts, tokens, expiries, erasing, eras = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local bots = KEYS[7]
local what, a, b, c = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local time = ARGV[5] == '' and whole(now()) or ARGV[5]
local function tell(event)
  number = number + 1
  save()
  redis.call('PUBLISH', ARGV[3], cjson.encode({ epoch, 'n' .. whole(number) .. '\\n' .. event }))
end
local function drop(hash)
  redis.call('HDEL', tokens, hash)
  redis.call('ZREM', expiries, hash)
end
local function setBots(account, all)
  local lines = {}
  for _, bot in ipairs(all) do table.insert(lines, table.concat(bot, '\\n') .. '\\n') end
  if #lines == 0 then redis.call('HDEL', bots, account)
  else redis.call('HSET', bots, account, table.concat(lines)) end
end
local function endAll(account, keptHash, event)
  for _, bot in ipairs(botsOf(tokens, eras, bots, account)) do drop(bot[1]) end
  setBots(account, {})
  local kept = findToken(tokens, eras, keptHash)
  local era = whole(redis.call('HINCRBY', eras, account, 1))
  if kept then
    local expires, holder = string.match(kept, '^(%d+)\\n(.*)\\n%d+$')
    if holder == account then redis.call('HSET', tokens, keptHash, expires .. '\\n' .. account .. '\\n' .. era) end
  end
  tell(event)
end
local function isThere(account)
  local found = redis.call('HGET', accounts, account)
  return found and string.sub(found, 1, 1) ~= '\\n'
end
if what == 'add' then
  if redis.call('HSETNX', accounts, a, b) == 0 then return 0 end
  tell(c)
elseif what == 'token' then
  for _, hash in ipairs(redis.call('ZRANGEBYSCORE', expiries, '-inf', time, 'LIMIT', 0, 256)) do drop(hash) end
  redis.call('HSET', tokens, a, c .. '\\n' .. b .. '\\n' .. eraOf(eras, b))
  redis.call('ZADD', expiries, c, a)
elseif what == 'bot' then
  local all = botsOf(tokens, eras, bots, b)
  if #all >= tonumber(ARGV[12]) then return 0 end
  for _, bot in ipairs(all) do if bot[3] == c then return 0 end end
  redis.call('HSET', tokens, a, ARGV[10] .. '\\n' .. b .. '\\n' .. eraOf(eras, b))
  table.insert(all, { a, ARGV[11], c })
  setBots(b, all)
elseif what == 'endBot' then
  local rest, hash = {}, nil
  for _, bot in ipairs(botsOf(tokens, eras, bots, a)) do
    if bot[3] == b then hash = bot[1] else table.insert(rest, bot) end
  end
  if not hash then return 0 end
  drop(hash)
  setBots(a, rest)
  tell(cjson.encode({ type = 'token_ended', hash = hash }))
elseif what == 'end' then
  drop(a)
  tell(b)
elseif what == 'endAll' then
  endAll(a, '', b)
elseif what == 'password' then
  if not isThere(a) then return 0 end
  local name = string.match(redis.call('HGET', accounts, a), '^([^\\n]*)')
  redis.call('HSET', accounts, a, name .. '\\n' .. b)
  endAll(a, c, ARGV[10])
elseif what == 'remove' then
  if not isThere(a) then return 0 end
  redis.call('HSET', accounts, a, '\\n')
  redis.call('SADD', erasing, a)
  endAll(a, '', b)
end
return 1
`;

/** KEYS: generation. ARGV: identity. Names the server's present generation by a time that grows. */
const GENERATION = `${COMMON}
local known = redis.call('HMGET', KEYS[1], 'identity', 'time')
if known[1] == ARGV[1] then return known[2] end
local t = redis.call('TIME')
local time = tonumber(t[1]) * 1000000 + tonumber(t[2])
if known[2] and tonumber(known[2]) >= time then time = tonumber(known[2]) + 1 end
redis.call('HSET', KEYS[1], 'identity', ARGV[1], 'time', whole(time))
return whole(time)
`;

/**
 * Renews a lease, unless it has expired.
 *
 * KEYS: leases, ended. ARGV: instance, how long the lease lasts, clock. Returns the server's time,
 * the end of the lease (nil if it has expired), and instances whose lease has expired.
 */
const RENEW = `${COMMON}
local real = now()
local time = ARGV[3] == '' and real or tonumber(ARGV[3])
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
local isAlive = not redis.call('ZSCORE', KEYS[2], ARGV[1]) and (not ends or tonumber(ends) >= time)
local after = whole(time + tonumber(ARGV[2]))
if isAlive then redis.call('ZADD', KEYS[1], after, ARGV[1]) end
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. whole(time), 'LIMIT', 0, 4)
return { whole(real), isAlive and after or false, expired }
`;

/**
 * Notes rooms that an instance enters, if it has a lease.
 *
 * KEYS: leases, rooms of the instance. ARGV: instance, clock, batch, rooms. Returns the end of the
 * lease, or 0 without one.
 */
const VISIT = `${COMMON}
local time = ARGV[2] == '' and now() or tonumber(ARGV[2])
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not ends or tonumber(ends) < time then return '0' end
for i = 4, #ARGV do redis.call('ZADD', KEYS[2], 'GT', ARGV[3], ARGV[i]) end
return ends
`;

/**
 * Removes rooms that an instance has left, unless it has entered them again.
 *
 * KEYS: rooms of the instance. ARGV: the batch in which it left, rooms.
 */
const FORGET = `
for i = 2, #ARGV do
  local entered = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if entered and tonumber(entered) <= tonumber(ARGV[1]) then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return 1
`;

/**
 * Notes that an instance has ended, if it has no presence left.
 *
 * KEYS: leases, ended, its rooms. ARGV: instance, clock. Returns whether it has ended.
 */
const END = `${COMMON}
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local time = ARGV[2] == '' and now() or tonumber(ARGV[2])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], whole(time), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(time - ${ENDED_MS}))
return 1
`;

/** Every script, by name. */
export const SCRIPTS = {
  turn: ROOM + BASE + INBOXES + TURN,
  rewrite: ROOM + REWRITE,
  people: ROOM + ERAS + BOTS + PEOPLE,
  token: ERAS + TOKEN,
  botTokens: ERAS + BOTS + BOT_TOKENS,
  rewritePrivates: REWRITE_PRIVATES,
  dropOld: COMMON + INBOXES + DROP_OLD,
  events: EVENTS,
  messages: MESSAGES,
  open: OPEN,
  page: PAGE,
  inbox: INBOX,
  generation: GENERATION,
  renew: RENEW,
  visit: VISIT,
  forget: FORGET,
  end: END,
} as const;

/** The name of a script. */
export type ScriptName = keyof typeof SCRIPTS;
