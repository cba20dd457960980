/**
 * Hubbub's part of a PostgreSQL database: the tables of the schema `hubbub`, which people may read,
 * and the functions that change and read them.
 *
 * The name of a function ends with its version, so that two releases can share a database: a
 * changed function gets a new name, and the old one stays for the older release.
 *
 * A function locks in this order: instances, rooms by name, and then anything else. The rows of a
 * room (events, inbox, presence, visits) change while the room is locked. A function that changes
 * such rows without the lock skips rows that others have locked, and so waits for nobody.
 *
 * @module
 */

/** The version of the tables and functions below. */
export const SCHEMA_VERSION = 2;

/** The channel on which instances receive events. The functions contain its name too. */
export const CHANNEL = "hubbub";

/** The tables, and the view that people read. Times are milliseconds since 1970. */
const TABLES = `
  CREATE TABLE epochs (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    started bigint NOT NULL,
    -- Identifies the server and its tables since the last start or restore, see generation_v1.
    generation text NOT NULL,
    -- The first number of a new room: no removed room had a higher one.
    first_number bigint NOT NULL DEFAULT 0
  );

  CREATE TABLE rooms (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The room '' counts server-wide events.
    name text COLLATE "C" NOT NULL UNIQUE,
    -- When somebody last wrote.
    active bigint NOT NULL DEFAULT 0,
    last_seq bigint NOT NULL DEFAULT 0,
    -- The oldest seq that is still kept.
    oldest_seq bigint NOT NULL DEFAULT 1,
    -- The newest numbers of changes of presence, of private messages, of settings and of erasures.
    presence bigint NOT NULL DEFAULT 0,
    privates bigint NOT NULL DEFAULT 0,
    settings bigint NOT NULL DEFAULT 0,
    erasures bigint NOT NULL DEFAULT 0
  ) WITH (fillfactor = 50);

  CREATE TABLE events (
    room bigint NOT NULL,
    seq bigint NOT NULL,
    -- Whether it is a message that is not deleted.
    shown boolean NOT NULL,
    -- 'chat', 'message_updated' or 'message_deleted'.
    type text NOT NULL,
    epoch integer NOT NULL,
    time bigint NOT NULL,
    username text NOT NULL,
    -- Who caused the event.
    person text NOT NULL,
    -- Empty in a change that a later one replaced.
    content text NOT NULL,
    ref text,
    reply_to text,
    -- The id of the changed message; NULL for a message.
    target text,
    -- The seq of a message's newest change.
    changed bigint,
    PRIMARY KEY (room, seq)
  );
  -- With it, a page of messages reads exactly as many rows as it has messages.
  CREATE UNIQUE INDEX events_shown ON events (room, seq) WHERE shown;
  CREATE UNIQUE INDEX events_ref ON events (room, ref, person) WHERE ref IS NOT NULL;

  CREATE TABLE inbox (
    room bigint NOT NULL,
    -- The owner of the inbox.
    person text NOT NULL,
    seq bigint NOT NULL,
    epoch integer NOT NULL,
    id text NOT NULL,
    content text NOT NULL,
    time bigint NOT NULL,
    from_name text NOT NULL,
    from_person text NOT NULL,
    from_seq bigint NOT NULL,
    to_name text NOT NULL,
    to_person text NOT NULL,
    to_seq bigint NOT NULL,
    ref text,
    -- Counts the private messages of the room.
    number bigint NOT NULL,
    PRIMARY KEY (room, person, seq)
  );
  CREATE UNIQUE INDEX inbox_ref ON inbox (room, person, ref)
    WHERE ref IS NOT NULL AND person = from_person;
  CREATE INDEX inbox_number ON inbox (room, number);
  CREATE INDEX inbox_person ON inbox (person);
  CREATE INDEX inbox_sender ON inbox (from_person);
  CREATE INDEX inbox_time ON inbox (time);

  CREATE TABLE accounts (
    key text PRIMARY KEY,
    -- Empty if the account was removed, whose key stays taken.
    username text NOT NULL,
    -- For a removed account: 'erasing' until its messages are erased, then empty.
    password_hash text NOT NULL
  );

  -- The progress of each removed account's erasure: the last event that was read.
  CREATE TABLE erasures (
    account text PRIMARY KEY,
    room bigint NOT NULL DEFAULT 0,
    seq bigint NOT NULL DEFAULT 0
  );

  CREATE TABLE sessions (
    hash text PRIMARY KEY,
    account text NOT NULL,
    -- 2^53 - 1 for a bot's token, which never expires.
    expires_at double precision NOT NULL,
    -- Only for a bot's token, as is created.
    name text,
    created bigint
  );
  CREATE INDEX sessions_expiry ON sessions (expires_at);
  CREATE INDEX sessions_account ON sessions (account);

  CREATE TABLE settings (
    room text PRIMARY KEY,
    owner text,
    -- RoomSettings, as JSON.
    value text NOT NULL
  );
  CREATE INDEX settings_owner ON settings (owner);

  -- The users that have left a room, by name in the form in which names are compared.
  CREATE TABLE visits (
    room text NOT NULL,
    key text NOT NULL,
    username text NOT NULL,
    person text NOT NULL,
    ended bigint NOT NULL,
    PRIMARY KEY (room, key)
  );
  CREATE INDEX visits_ended ON visits (ended);

  -- The connections in each room.
  CREATE TABLE presence (
    room bigint NOT NULL,
    connection text NOT NULL,
    instance text NOT NULL,
    key text NOT NULL,
    username text NOT NULL,
    person text NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (room, connection)
  );
  CREATE INDEX presence_key ON presence (room, key);
  CREATE INDEX presence_instance ON presence (instance);

  -- The servers that use this database.
  CREATE TABLE instances (
    name text PRIMARY KEY,
    -- The end of its lease, and whether the instance has ended.
    expires bigint NOT NULL,
    ended boolean NOT NULL DEFAULT false,
    -- The number of its newest batch, and the answer to it.
    batch bigint NOT NULL DEFAULT -1,
    answer text
  ) WITH (fillfactor = 30);

  CREATE VIEW messages AS
    SELECT rooms.name AS room, events.seq,
      epochs.name || '-' || left(encode(sha256(convert_to(rooms.name, 'UTF8')), 'hex'), 16)
        || '-' || events.seq AS id,
      events.username, events.content,
      to_char(to_timestamp(events.time / 1000.0) AT TIME ZONE 'UTC',
        'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS timestamp,
      events.shown AND events.changed IS NOT NULL AS edited,
      NOT events.shown AS deleted,
      events.reply_to, events.ref
    FROM events
    JOIN rooms ON rooms.id = events.room
    JOIN epochs ON epochs.id = events.epoch
    WHERE events.type = 'chat';
`;

/**
 * Settings of functions. Each connection makes a plan once, and the plan uses the indexes even if
 * the tables are small at that time. Plans are not compiled: without an index to use, the planner
 * estimates immense costs, and would spend a tenth of a second or more on compiling.
 */
const SETTINGS = `
  SET search_path = hubbub, pg_temp
  SET plan_cache_mode = force_generic_plan
  SET enable_seqscan = off
  SET jit = off
`;

/** The epoch, the clock, rows as JSON, and notifications. */
const BASICS = `
  -- Differs after a failover, a restore of a snapshot, a restore of a dump, and a restart.
  CREATE FUNCTION generation_v1() RETURNS text LANGUAGE sql STABLE SET search_path = hubbub, pg_temp
  AS $fn$
    SELECT (SELECT system_identifier FROM pg_control_system())
      || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
      || '-' || extract(epoch FROM pg_postmaster_start_time())
      || '-' || 'hubbub.events'::regclass::oid
  $fn$;

  -- The present epoch. Begins one if the generation has changed.
  CREATE FUNCTION begin_v1(p_now bigint, p_name text) RETURNS text LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  DECLARE newest epochs;
  BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('hubbub'));
    SELECT * INTO newest FROM epochs ORDER BY id DESC LIMIT 1;
    IF newest.generation IS DISTINCT FROM generation_v1() THEN
      INSERT INTO epochs (name, started, generation)
      VALUES (p_name, greatest(newest.started + 1, now_v1(p_now)), generation_v1())
      RETURNING * INTO newest;
    END IF;
    RETURN json_build_array(now_v1(NULL), newest.id, newest.started,
      (SELECT json_agg(json_build_array(id, name)) FROM epochs));
  END $fn$;

  CREATE FUNCTION now_v1(p_now bigint) RETURNS bigint LANGUAGE sql VOLATILE
  AS $fn$
    SELECT coalesce(p_now, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
  $fn$;

  -- Refuses a link of an earlier epoch. Returns the first number of presence and privates.
  CREATE FUNCTION check_v1(p_epoch integer) RETURNS bigint LANGUAGE plpgsql STABLE
  AS $fn$
  DECLARE newest hubbub.epochs;
  BEGIN
    SELECT * INTO newest FROM hubbub.epochs ORDER BY id DESC LIMIT 1;
    -- Comparing the start time is enough: any other server started at another time.
    IF newest.id IS DISTINCT FROM p_epoch OR newest.generation NOT LIKE '%-'
      || extract(epoch FROM pg_postmaster_start_time()) || '-' || 'hubbub.events'::regclass::oid
    THEN
      RAISE EXCEPTION 'another epoch of Hubbub has begun' USING ERRCODE = 'HB001';
    END IF;
    RETURN newest.started * 1000;
  END $fn$;

  -- The first number of presence and privates for a room that has none in this epoch.
  CREATE FUNCTION first_v1(p_start bigint) RETURNS bigint LANGUAGE sql STABLE
  AS $fn$
    SELECT greatest(p_start, (SELECT first_number FROM hubbub.epochs ORDER BY id DESC LIMIT 1))
  $fn$;

  CREATE FUNCTION row_v1(e events) RETURNS text LANGUAGE sql STABLE
  AS $fn$
    SELECT json_build_array(e.seq, e.type, e.epoch, e.time, e.username, e.content, e.ref, e.reply_to,
      e.target, e.shown, e.changed)::text
  $fn$;

  CREATE FUNCTION private_v1(w inbox) RETURNS text LANGUAGE sql STABLE
  AS $fn$
    SELECT json_build_array(w.id, w.content, w.time, w.from_name, w.from_person, w.from_seq,
      w.to_name, w.to_person, w.to_seq, w.ref)::text
  $fn$;

  -- The position of a room, with a row or without one; p_start is the epoch's first number.
  CREATE FUNCTION position_v1(r rooms, p_start bigint) RETURNS json LANGUAGE sql STABLE
  AS $fn$
    SELECT json_build_array(coalesce(r.last_seq, 0),
      CASE WHEN r.presence > 0 THEN greatest(r.presence, p_start) ELSE hubbub.first_v1(p_start) END,
      CASE WHEN r.privates > 0 THEN greatest(r.privates, p_start) ELSE hubbub.first_v1(p_start) END,
      coalesce(r.settings, 0), coalesce(r.erasures, 0))
  $fn$;

  -- Whether a log still has an event that a client saw in an epoch, and everything after it.
  CREATE FUNCTION continues_v1(r rooms, p_epoch integer, p_known integer, p_seq bigint)
  RETURNS boolean LANGUAGE sql STABLE
  AS $fn$
    SELECT p_seq BETWEEN coalesce(r.oldest_seq, 1) - 1 AND coalesce(r.last_seq, 0) AND (
      p_seq = 0 OR p_known = p_epoch OR coalesce((
        SELECT e.epoch FROM hubbub.events e
        WHERE e.room = r.id AND e.seq = greatest(p_seq, r.oldest_seq)
      ) <= p_known, false))
  $fn$;

  -- Notifies of items of rooms, in order. A payload has less than 8000 bytes; for an item that does
  -- not fit, the payload has the room's position. The first number makes each payload unique.
  CREATE FUNCTION tell_v1(p_epoch integer, p_start bigint, p_rooms text[], p_items text[])
  RETURNS void LANGUAGE plpgsql
  AS $fn$
  DECLARE
    t record; head text := ''; body text := ''; room_told text; size integer := 0; n integer := 0;
  BEGIN
    FOR t IN SELECT room, item, octet_length(item) AS bytes FROM unnest(p_rooms, p_items) AS u(room, item)
    LOOP
      IF body <> '' AND (t.room <> room_told OR size + t.bytes > 7900) THEN
        PERFORM pg_notify('${CHANNEL}', '[' || n || head || '[' || body || ']]');
        n := n + 1;
        body := '';
      END IF;
      IF t.room IS DISTINCT FROM room_told THEN
        room_told := t.room;
        head := ',' || to_json(room_told) || ',' || p_epoch || ',';
      END IF;
      IF body = '' THEN
        size := octet_length(head) + 16;
        body := t.item;
      ELSE
        body := body || ',' || t.item;
      END IF;
      size := size + t.bytes + 1;
      IF size > 7900 THEN
        PERFORM pg_notify('${CHANNEL}', '[' || n || head || 'null,' || hubbub.position_v1(r, p_start) || ']')
        FROM hubbub.rooms r WHERE r.name = room_told;
        n := n + 1;
        body := '';
      END IF;
    END LOOP;
    IF body <> '' THEN
      PERFORM pg_notify('${CHANNEL}', '[' || n || head || '[' || body || ']]');
    END IF;
  END $fn$;

  -- Numbers a server-wide event, and notifies of it.
  CREATE FUNCTION everywhere_v1(p_epoch integer, p_event text) RETURNS void LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  DECLARE v_start bigint := check_v1(p_epoch); v_number bigint;
  BEGIN
    INSERT INTO rooms (name, privates) VALUES ('', v_start + 1)
    ON CONFLICT (name) DO UPDATE SET privates = greatest(rooms.privates, v_start) + 1
    RETURNING privates INTO v_number;
    PERFORM tell_v1(p_epoch, v_start, ARRAY[''],
      ARRAY['["publish",' || p_event || ',' || v_number || ']']);
  END $fn$;

  -- Whether a call is too late, and must do nothing.
  CREATE FUNCTION late_v1(p_deadline double precision) RETURNS boolean LANGUAGE sql VOLATILE
  AS $fn$
    SELECT extract(epoch FROM clock_timestamp()) * 1000 > p_deadline
  $fn$;
`;

/** The function that runs a batch. */
const TURN = `
  -- Remembers a user whose last connection in a room has left.
  CREATE FUNCTION depart_v1(p presence, p_room text, p_now bigint) RETURNS void LANGUAGE sql VOLATILE
  AS $fn$
    INSERT INTO hubbub.visits (room, key, username, person, ended)
    SELECT p_room, p.key, p.username, p.person, p_now
    WHERE NOT EXISTS (SELECT FROM hubbub.presence o WHERE o.room = p.room AND o.key = p.key)
    ON CONFLICT (room, key) DO UPDATE
      SET username = excluded.username, person = excluded.person, ended = excluded.ended
  $fn$;

  -- Runs jobs, one for each index of the arrays. Messages are inserted together, before the next
  -- job that reads messages.
  CREATE FUNCTION turn_v1(
    p_epoch integer, p_now bigint, p_deadline double precision, p_instance text,
    p_number bigint, p_keep bigint, p_names text[], p_kinds text[], p_rooms integer[],
    p_usernames text[], p_persons text[], p_contents text[], p_refs text[], p_targets text[],
    p_origins text[], p_xs text[], p_ys text[], p_zs text[]
  ) RETURNS text LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  DECLARE
    v_now bigint; v_start bigint; v_instance instances; stored record; job record;
    v_message events; v_change events; v_private inbox; v_member presence;
    v_number bigint; v_room bigint; v_answer text; v_done integer := 0;
    v_told_rooms text[]; v_told_items text[];
    v_count integer := cardinality(p_kinds);
    v_zeros bigint[] := array_fill(0::bigint, ARRAY[cardinality(p_names)]);
    v_ids bigint[] := v_zeros; v_last bigint[] := v_zeros; v_oldest bigint[] := v_zeros;
    v_times bigint[] := v_zeros; v_presence bigint[] := v_zeros; v_privates bigint[] := v_zeros;
    v_settings bigint[] := v_zeros;
    v_seqs bigint[] := array_fill(NULL::bigint, ARRAY[v_count]);
    v_items text[] := array_fill(NULL::text, ARRAY[v_count]);
    v_answers text[] := array_fill(NULL::text, ARRAY[v_count]);
  BEGIN
    v_start := check_v1(p_epoch);
    v_now := now_v1(p_now);
    SELECT * INTO v_instance FROM instances WHERE name = p_instance FOR UPDATE;
    IF NOT FOUND THEN
      INSERT INTO instances (name, expires) VALUES (p_instance, 0) ON CONFLICT DO NOTHING;
      SELECT * INTO v_instance FROM instances WHERE name = p_instance FOR UPDATE;
    END IF;
    IF v_instance.batch >= p_number THEN
      IF v_instance.batch > p_number OR v_instance.answer IS NULL THEN
        RAISE EXCEPTION 'the answers to batch % are gone', p_number;
      END IF;
      RETURN v_instance.answer;
    END IF;
    IF late_v1(p_deadline) THEN
      RETURN 'late';
    END IF;

    IF EXISTS (SELECT FROM unnest(p_names) AS n WHERE NOT EXISTS (SELECT FROM rooms WHERE name = n))
    THEN
      INSERT INTO rooms (name) SELECT n FROM unnest(p_names) AS n ORDER BY n COLLATE "C"
      ON CONFLICT DO NOTHING;
    END IF;
    FOR stored IN
      SELECT rooms.*, n.i FROM unnest(p_names) WITH ORDINALITY AS n(name, i)
      JOIN rooms ON rooms.name = n.name ORDER BY rooms.name FOR UPDATE OF rooms
    LOOP
      v_ids[stored.i] := stored.id;
      v_last[stored.i] := stored.last_seq;
      v_oldest[stored.i] := stored.oldest_seq;
      v_times[stored.i] := greatest(stored.active, v_now);
      v_presence[stored.i] := CASE WHEN stored.presence > 0 THEN greatest(stored.presence, v_start)
        ELSE first_v1(v_start) END;
      v_privates[stored.i] := CASE WHEN stored.privates > 0 THEN greatest(stored.privates, v_start)
        ELSE first_v1(v_start) END;
      v_settings[stored.i] := stored.settings;
    END LOOP;
    -- A row was removed during the wait for it. Inserting it now, with others locked, could
    -- deadlock.
    IF 0 = ANY (v_ids) THEN
      RETURN 'again';
    END IF;

    FOR job IN
      SELECT *, t.kind = 'append' AND t.ref IS NOT NULL AND EXISTS (
        SELECT FROM events WHERE events.room = v_ids[t.room] AND events.person = t.person
          AND events.ref = t.ref
      ) AS is_known
      FROM unnest(
        p_kinds || 'end'::text, p_rooms, p_usernames, p_persons, p_contents, p_refs, p_targets,
        p_origins, p_xs, p_ys, p_zs
      ) WITH ORDINALITY AS t(kind, room, username, person, content, ref, target, origin, x, y, z, i)
    LOOP
      IF job.kind = 'append' AND job.target IS NULL AND job.z IS NULL AND NOT job.is_known THEN
        v_number := v_last[job.room] + 1;
        v_last[job.room] := v_number;
        v_seqs[job.i] := v_number;
        v_answers[job.i] := v_number::text;
        CONTINUE;
      END IF;
      IF job.kind IN ('append', 'edit', 'delete', 'erase', 'end') THEN
        INSERT INTO events (
          room, seq, shown, type, epoch, time, username, person, content, ref, reply_to
        )
        SELECT v_ids[t.room], v_seqs[t.i], true, 'chat', p_epoch, v_times[t.room],
          t.username, t.person, t.content, t.ref, t.target
        FROM unnest(p_rooms, p_usernames, p_persons, p_contents, p_refs, p_targets)
          WITH ORDINALITY AS t(room, username, person, content, ref, target, i)
        WHERE t.i > v_done AND t.i < job.i AND v_seqs[t.i] IS NOT NULL;
        v_done := job.i - 1;
        EXIT WHEN job.kind = 'end';
      END IF;
      v_room := v_ids[job.room];

      CASE job.kind
      WHEN 'append' THEN
        SELECT * INTO v_message FROM events WHERE room = v_room AND person = job.person AND ref = job.ref;
        IF FOUND THEN
          v_answers[job.i] := row_v1(v_message);
          CONTINUE;
        END IF;
        IF job.target IS NOT NULL THEN
          PERFORM FROM events
          WHERE room = v_room AND seq = job.x::bigint AND epoch = job.y::integer AND type = 'chat';
          IF NOT FOUND THEN
            v_answers[job.i] := '"answered"';
            CONTINUE;
          END IF;
        END IF;
        v_number := v_last[job.room] + 1;
        v_last[job.room] := v_number;
        v_seqs[job.i] := v_number;
        v_answers[job.i] := v_number::text;

      WHEN 'edit', 'delete', 'erase' THEN
        SELECT * INTO v_message FROM events
        WHERE room = v_room AND seq = job.x::bigint AND epoch = job.y::integer AND shown;
        IF NOT FOUND THEN
          v_answers[job.i] := '"message"';
        ELSIF v_message.person <> job.person AND job.z IS NULL THEN
          v_answers[job.i] := '"author"';
        ELSE
          v_number := v_last[job.room] + 1;
          v_last[job.room] := v_number;
          v_change := change_v1(v_message, p_epoch, v_number, v_times[job.room], job.kind, job.target,
            job.person, job.content);
          v_answers[job.i] := row_v1(v_change);
          v_items[job.i] := '["logged",' || to_json(job.origin) || ',' || v_answers[job.i] || ']';
        END IF;

      WHEN 'whisper' THEN
        SELECT * INTO v_private FROM inbox
        WHERE room = v_room AND person = job.person AND ref = job.ref AND from_person = job.person;
        IF FOUND THEN
          v_answers[job.i] := '[true,' || private_v1(v_private) || ']';
        ELSIF job.z IS NULL THEN
          v_answers[job.i] := '"nobody"';
        ELSE
          v_number := v_privates[job.room] + 1;
          v_privates[job.room] := v_number;
          SELECT v_room, job.person, coalesce(max(seq), 0) + 1, p_epoch, job.x, job.content,
            v_times[job.room], job.username, job.person, coalesce(max(seq), 0) + 1, job.y, job.z, 0,
            job.ref, v_number
          INTO v_private FROM inbox WHERE room = v_room AND person = job.person;
          SELECT coalesce(max(seq), 0) + CASE WHEN job.z = job.person THEN 2 ELSE 1 END
          INTO v_private.to_seq FROM inbox WHERE room = v_room AND person = job.z;
          INSERT INTO inbox SELECT v_private.*;
          v_answers[job.i] := '[false,' || private_v1(v_private) || ']';
          v_items[job.i] := '["private",' || to_json(job.origin) || ','
            || private_v1(v_private) || ',' || v_number || ']';
          v_private.person := job.z;
          v_private.seq := v_private.to_seq;
          INSERT INTO inbox SELECT v_private.*;
          DELETE FROM inbox WHERE room = v_room AND (
            person = job.person AND seq <= v_private.from_seq - p_keep AND v_private.from_seq % 64 = 0
            OR person = job.z AND seq <= v_private.to_seq - p_keep AND v_private.to_seq % 64 = 0);
        END IF;

      WHEN 'enter' THEN
        SELECT * INTO v_member FROM presence WHERE room = v_room AND connection = job.x;
        IF FOUND THEN
          UPDATE presence SET instance = p_instance
          WHERE room = v_room AND connection = job.x AND instance <> p_instance;
          v_answers[job.i] := v_member.number::text;
        ELSIF v_instance.ended OR v_instance.expires < v_now THEN
          v_answers[job.i] := '"lease"';
        ELSIF EXISTS (SELECT FROM presence WHERE room = v_room AND key = job.y AND person <> job.person)
        THEN
          v_answers[job.i] := '"name"';
        ELSE
          v_number := v_presence[job.room] + 1;
          v_presence[job.room] := v_number;
          INSERT INTO presence VALUES (v_room, job.x, p_instance, job.y, job.username, job.person, v_number);
          DELETE FROM visits WHERE room = p_names[job.room] AND key = job.y;
          v_answers[job.i] := v_number::text;
          v_items[job.i] := json_build_array('entered', v_number, job.x, job.username, job.person)::text;
        END IF;

      WHEN 'leave' THEN
        DELETE FROM presence WHERE room = v_room AND connection = job.x AND instance = p_instance
        RETURNING * INTO v_member;
        IF FOUND THEN
          PERFORM depart_v1(v_member, p_names[job.room], v_now);
          v_number := v_presence[job.room] + 1;
          v_presence[job.room] := v_number;
          v_items[job.i] := json_build_array('left', v_number, v_member.connection,
            v_member.username, v_member.person)::text;
        END IF;

      WHEN 'publish' THEN
        IF p_names[job.room] = '' THEN
          v_privates[job.room] := v_privates[job.room] + 1;
          v_items[job.i] := '["publish",' || job.content || ',' || v_privates[job.room] || ']';
        ELSE
          v_items[job.i] := '["publish",' || job.content || ']';
        END IF;

      WHEN 'settings' THEN
        IF v_settings[job.room] = job.x::bigint THEN
          v_settings[job.room] := v_settings[job.room] + 1;
          INSERT INTO settings VALUES (p_names[job.room], job.y, job.content)
          ON CONFLICT (room) DO UPDATE SET owner = excluded.owner, value = excluded.value;
          v_items[job.i] := '["settings",' || job.content || ']';
          v_answers[job.i] := 'true';
        ELSE
          v_answers[job.i] := 'false';
        END IF;

      WHEN 'present' THEN
        v_answers[job.i] := present_v1(v_room);

      WHEN 'lastSeen' THEN
        SELECT json_build_array(username, person) INTO v_answer FROM (
          (SELECT username, person FROM presence WHERE room = v_room AND key = job.y
            ORDER BY number LIMIT 1)
          UNION ALL
          (SELECT username, person FROM visits
            WHERE room = p_names[job.room] AND key = job.y AND ended > v_now - job.x::bigint)
        ) AS found LIMIT 1;
        v_answers[job.i] := v_answer;
      END CASE;
    END LOOP;

    UPDATE rooms SET last_seq = t.last_seq, presence = t.presence, privates = t.privates,
      settings = t.settings, active = CASE
        WHEN t.last_seq > rooms.last_seq OR t.privates > greatest(rooms.privates, v_start) THEN t.time
        ELSE rooms.active END
    FROM unnest(v_ids, v_last, v_times, v_presence, v_privates, v_settings)
      AS t(id, last_seq, time, presence, privates, settings)
    WHERE rooms.id = t.id AND (rooms.last_seq, greatest(rooms.presence, v_start),
      greatest(rooms.privates, v_start), rooms.settings)
      <> (t.last_seq, t.presence, t.privates, t.settings);

    SELECT array_agg(p_names[t.room] ORDER BY t.room, t.i), array_agg(t.item ORDER BY t.room, t.i)
    INTO v_told_rooms, v_told_items FROM (
      SELECT u.room, u.i, CASE WHEN v_seqs[u.i] IS NULL THEN u.item ELSE
        json_build_array('chat', v_seqs[u.i], v_times[u.room], u.origin, u.username, u.content, u.ref,
          u.target)::text END AS item
      FROM unnest(p_rooms, p_usernames, p_contents, p_refs, p_targets, p_origins, v_items)
        WITH ORDINALITY AS u(room, username, content, ref, target, origin, item, i)
    ) AS t WHERE t.item IS NOT NULL;
    PERFORM tell_v1(p_epoch, v_start, v_told_rooms, v_told_items);

    v_answer := '[' || array_to_json(v_last) || ',' || array_to_json(v_oldest) || ','
      || array_to_json(v_times) || ',[' || array_to_string(v_answers, ',', 'null') || ']]';
    UPDATE instances SET batch = p_number, answer = v_answer WHERE name = p_instance;
    RETURN v_answer;
  END $fn$;

  -- Adds a change to a log and applies it to its message, as changes.ts does.
  CREATE FUNCTION change_v1(
    e events, p_epoch integer, p_seq bigint, p_time bigint, p_kind text, p_target text,
    p_person text, p_content text
  ) RETURNS events LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  DECLARE f events;
  BEGIN
    INSERT INTO events (room, seq, shown, type, epoch, time, username, person, content, target)
    VALUES (e.room, p_seq, false,
      CASE p_kind WHEN 'edit' THEN 'message_updated' ELSE 'message_deleted' END, p_epoch, p_time,
      CASE p_kind WHEN 'erase' THEN '' ELSE e.username END, p_person, coalesce(p_content, ''), p_target)
    RETURNING * INTO f;
    IF p_kind = 'edit' THEN
      UPDATE events SET content = p_content, changed = p_seq WHERE room = e.room AND seq = e.seq;
    ELSE
      UPDATE events SET content = '', reply_to = NULL, shown = false, changed = p_seq,
        username = f.username,
        person = CASE p_kind WHEN 'erase' THEN '' ELSE person END,
        ref = CASE p_kind WHEN 'erase' THEN NULL ELSE ref END
      WHERE room = e.room AND seq = e.seq;
    END IF;
    UPDATE events SET content = '' WHERE room = e.room AND seq = e.changed;
    RETURN f;
  END $fn$;
`;

/** The functions that read a room. */
const READING = `
  CREATE FUNCTION present_v1(p_room bigint) RETURNS text LANGUAGE sql STABLE ${SETTINGS}
  AS $fn$
    SELECT coalesce(json_agg(json_build_array(connection, username, person) ORDER BY number), '[]')
    FROM presence WHERE room = p_room
  $fn$;

  -- The newest dropped seq. Up to it, the index may still have dropped rows.
  CREATE FUNCTION dropped_v1(p_room bigint) RETURNS bigint LANGUAGE sql STABLE
  AS $fn$
    SELECT oldest_seq - 1 FROM hubbub.rooms WHERE id = p_room
  $fn$;

  -- Events after a seq. An edit that a later one replaced has its message's present text.
  CREATE FUNCTION events_v1(p_room bigint, p_after bigint, p_limit bigint) RETURNS text
  LANGUAGE sql STABLE ${SETTINGS}
  AS $fn$
    SELECT coalesce('[' || string_agg(row_v1(e), ',' ORDER BY e.seq) || ']', '[]') FROM (
      SELECT o.room, o.seq, o.shown, o.type, o.epoch, o.time, o.username, o.person,
        CASE WHEN o.type = 'message_updated' AND o.content = '' THEN coalesce((
          SELECT m.content FROM events m
          WHERE m.room = o.room AND m.seq = substring(o.target FROM '[0-9]+$')::bigint
        ), '') ELSE o.content END,
        o.ref, o.reply_to, o.target, o.changed
      FROM events o WHERE o.room = p_room AND o.seq > greatest(p_after, dropped_v1(p_room))
      ORDER BY o.seq LIMIT p_limit
    ) AS e
  $fn$;

  -- The messages nearest to the end of a range of seqs, or to its beginning.
  CREATE FUNCTION messages_v1(
    p_room bigint, p_after bigint, p_before bigint, p_limit bigint, p_newest boolean
  ) RETURNS text LANGUAGE plpgsql STABLE ${SETTINGS}
  AS $fn$
  DECLARE v_rows text; v_after bigint := greatest(p_after, dropped_v1(p_room));
  BEGIN
    IF p_newest THEN
      SELECT string_agg(row_v1(e), ',' ORDER BY e.seq) INTO v_rows FROM (
        SELECT * FROM events WHERE room = p_room AND seq > v_after AND seq < p_before AND shown
        ORDER BY seq DESC LIMIT p_limit) AS e;
    ELSE
      SELECT string_agg(row_v1(e), ',' ORDER BY e.seq) INTO v_rows FROM (
        SELECT * FROM events WHERE room = p_room AND seq > v_after AND seq < p_before AND shown
        ORDER BY seq LIMIT p_limit) AS e;
    END IF;
    RETURN '[' || coalesce(v_rows, '') || ']';
  END $fn$;

  CREATE FUNCTION open_v1(p_epoch integer, p_name text, p_events bigint, p_messages bigint)
  RETURNS text LANGUAGE plpgsql STABLE ${SETTINGS}
  AS $fn$
  DECLARE r rooms; v_start bigint := check_v1(p_epoch);
  BEGIN
    SELECT * INTO r FROM rooms WHERE name = p_name;
    IF NOT FOUND THEN
      RETURN '[' || position_v1(r, v_start) || ']';
    END IF;
    RETURN '[' || position_v1(r, v_start) || ',' || r.oldest_seq || ','
      || events_v1(r.id, r.last_seq - p_events, p_events) || ','
      || messages_v1(r.id, 0, r.last_seq + 1, p_messages, true) || ','
      || coalesce((SELECT value FROM settings WHERE room = p_name), 'null') || ','
      || present_v1(r.id) || ']';
  END $fn$;

  CREATE FUNCTION page_v1(
    p_epoch integer, p_name text, p_known integer, p_seq bigint, p_presence bigint,
    p_privates bigint, p_settings bigint, p_limit bigint
  ) RETURNS text LANGUAGE plpgsql STABLE ${SETTINGS}
  AS $fn$
  DECLARE r rooms; v_start bigint := check_v1(p_epoch);
  BEGIN
    SELECT * INTO r FROM rooms WHERE name = p_name;
    IF NOT FOUND THEN
      RETURN '[' || position_v1(r, v_start) || ']';
    END IF;
    RETURN '[' || position_v1(r, v_start) || ','
      || continues_v1(r, p_epoch, p_known, p_seq) || ','
      || events_v1(r.id, p_seq, p_limit) || ','
      || coalesce((
        SELECT '[' || string_agg('[' || w.number || ',' || w.message || ']', ',' ORDER BY w.number) || ']'
        FROM (
          SELECT DISTINCT ON (number) number, private_v1(inbox) AS message FROM inbox
          WHERE room = r.id AND number > p_privates ORDER BY number LIMIT p_limit
        ) AS w), '[]') || ','
      || coalesce((SELECT value FROM settings WHERE room = p_name AND r.settings <> p_settings), 'null')
      || ',' || CASE greatest(r.presence, v_start) WHEN p_presence THEN 'null' ELSE present_v1(r.id) END
      || ']';
  END $fn$;

  CREATE FUNCTION resume_v1(p_epoch integer, p_name text, p_known integer, p_seq bigint)
  RETURNS boolean LANGUAGE plpgsql STABLE ${SETTINGS}
  AS $fn$
  DECLARE r rooms;
  BEGIN
    SELECT * INTO r FROM rooms WHERE name = p_name;
    RETURN continues_v1(r, p_epoch, p_known, p_seq);
  END $fn$;

  -- The same for the private messages of a person. Only the oldest are ever dropped.
  CREATE FUNCTION resume_inbox_v1(p_name text, p_person text, p_known integer, p_seq bigint)
  RETURNS boolean LANGUAGE plpgsql STABLE ${SETTINGS}
  AS $fn$
  DECLARE v_room bigint; w inbox;
  BEGIN
    SELECT id INTO v_room FROM rooms WHERE name = p_name;
    SELECT * INTO w FROM inbox WHERE room = v_room AND person = p_person AND seq >= p_seq
    ORDER BY seq LIMIT 1;
    IF p_seq = 0 THEN
      RETURN w.seq IS NULL OR w.seq <= 1;
    END IF;
    RETURN coalesce(w.seq <= p_seq + 1 AND w.epoch <= p_known
      AND EXISTS (SELECT FROM inbox WHERE room = v_room AND person = p_person AND seq >= p_seq), false);
  END $fn$;
`;

/** The functions for leases and upkeep. */
const LEASES = `
  -- Ends instances and at most p_limit of their presences, each once. Returns whether more may be
  -- left.
  CREATE FUNCTION end_v1(p_epoch integer, p_now bigint, p_instances text[], p_limit bigint)
  RETURNS boolean LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  DECLARE
    v_start bigint := check_v1(p_epoch); v_now bigint := now_v1(p_now);
    v_ids bigint[]; v_connections text[]; v_ended presence[]; v_rooms text[]; v_items text[];
  BEGIN
    UPDATE instances SET ended = true WHERE name = ANY (p_instances) AND NOT ended;
    SELECT array_agg(room), array_agg(connection) INTO v_ids, v_connections FROM (
      SELECT room, connection FROM presence WHERE instance = ANY (p_instances) LIMIT p_limit) AS chosen;
    IF v_ids IS NULL THEN
      RETURN false;
    END IF;
    PERFORM FROM rooms WHERE id = ANY (v_ids) ORDER BY name FOR UPDATE;
    WITH deleted AS (
      DELETE FROM presence USING unnest(v_ids, v_connections) AS t(id, member)
      WHERE room = t.id AND connection = t.member AND instance = ANY (p_instances)
      RETURNING presence AS one
    ) SELECT array_agg(one ORDER BY (one).number) INTO v_ended FROM deleted;
    INSERT INTO visits (room, key, username, person, ended)
    SELECT DISTINCT ON (p.room, p.key) rooms.name, p.key, p.username, p.person, v_now
    FROM unnest(v_ended) AS p JOIN rooms ON rooms.id = p.room
    WHERE NOT EXISTS (SELECT FROM presence o WHERE o.room = p.room AND o.key = p.key)
    ORDER BY p.room, p.key, p.number DESC
    ON CONFLICT (room, key) DO UPDATE
      SET username = excluded.username, person = excluded.person, ended = excluded.ended;
    SELECT array_agg(t.name ORDER BY t.name, t.number),
      array_agg(json_build_array('left', t.number, t.connection, t.username, t.person)::text
        ORDER BY t.name, t.number)
    INTO v_rooms, v_items FROM (
      SELECT rooms.name, p.connection, p.username, p.person, greatest(rooms.presence, v_start)
        + row_number() OVER (PARTITION BY p.room ORDER BY p.number) AS number
      FROM unnest(v_ended) AS p JOIN rooms ON rooms.id = p.room
    ) AS t;
    UPDATE rooms SET presence = greatest(presence, v_start) + t.count
    FROM (SELECT p.room, count(*) FROM unnest(v_ended) AS p GROUP BY p.room) AS t
    WHERE rooms.id = t.room;
    PERFORM tell_v1(p_epoch, v_start, v_rooms, v_items);
    RETURN cardinality(v_ids) = p_limit;
  END $fn$;

  CREATE FUNCTION beat_v1(
    p_epoch integer, p_now bigint, p_instance text, p_lease bigint, p_probe text, p_rooms text[],
    p_answered bigint, p_ends bigint
  ) RETURNS text LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  DECLARE
    v_start bigint := check_v1(p_epoch); v_now bigint := now_v1(p_now); v_instance instances;
    v_alive boolean; v_ended text[];
  BEGIN
    INSERT INTO instances (name, expires) VALUES (p_instance, v_now) ON CONFLICT DO NOTHING;
    SELECT * INTO v_instance FROM instances WHERE name = p_instance FOR UPDATE;
    v_alive := NOT v_instance.ended AND v_instance.expires >= v_now;
    IF v_alive THEN
      UPDATE instances SET expires = v_now + p_lease,
        answer = CASE WHEN batch <= p_answered THEN NULL ELSE answer END
      WHERE name = p_instance;
    END IF;
    -- A locked instance is being renewed, or ended, by that transaction.
    SELECT array_agg(name) INTO v_ended FROM (
      SELECT name FROM instances WHERE expires < v_now AND (
        NOT ended OR EXISTS (SELECT FROM presence WHERE instance = instances.name))
      ORDER BY name FOR UPDATE SKIP LOCKED) AS expired;
    IF v_ended IS NOT NULL THEN
      PERFORM end_v1(p_epoch, p_now, v_ended, p_ends);
    END IF;
    PERFORM pg_notify('${CHANNEL}', to_json(p_probe)::text);
    RETURN json_build_array(now_v1(NULL), v_alive, (
      SELECT json_agg(position_v1(rooms, v_start) ORDER BY n.i)
      FROM unnest(p_rooms) WITH ORDINALITY AS n(name, i) LEFT JOIN rooms ON rooms.name = n.name
    ), (SELECT greatest(privates, v_start) FROM rooms WHERE name = ''));
  END $fn$;

  -- Fails if the disk is full, since it writes a temporary file of 128 kB. The other writes of a
  -- beat need no new space.
  CREATE FUNCTION space_v1() RETURNS bigint LANGUAGE sql VOLATILE SET work_mem = '64kB'
  AS $fn$
    SELECT count(*) FROM unnest(ARRAY[repeat('x', 65536), repeat('y', 65536)])
  $fn$;

  -- Drops at most p_limit of a room's events beyond those to keep. Returns NULL when nothing is
  -- left to drop.
  CREATE FUNCTION trim_v1(p_name text, p_keep bigint, p_limit bigint) RETURNS bigint LANGUAGE plpgsql
  ${SETTINGS} SET lock_timeout = '500ms'
  AS $fn$
  DECLARE r rooms; v_end bigint; v_oldest bigint;
  BEGIN
    SELECT * INTO r FROM rooms WHERE name = p_name FOR UPDATE;
    v_end := r.last_seq - p_keep + 1;
    v_oldest := least(v_end, r.oldest_seq + p_limit);
    IF v_oldest > r.oldest_seq THEN
      -- Begin at the oldest one: before it, the index has the rows dropped since the last vacuum.
      DELETE FROM events WHERE room = r.id AND seq >= r.oldest_seq AND seq < v_oldest;
      UPDATE rooms SET oldest_seq = v_oldest WHERE id = r.id;
    END IF;
    RETURN CASE WHEN v_oldest < v_end THEN v_oldest END;
  END $fn$;

  -- Drops old private messages, except the newest of each person. Checks p_limit messages after a
  -- time; returns the time to continue from, or NULL at the end.
  CREATE FUNCTION clean_inbox_v1(p_now bigint, p_age bigint, p_from bigint, p_limit bigint)
  RETURNS bigint LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  DECLARE v_to bigint;
  BEGIN
    SELECT max(t.time) INTO v_to FROM (
      SELECT time FROM inbox WHERE time > p_from AND time < now_v1(p_now) - p_age
      ORDER BY time LIMIT p_limit) AS t;
    DELETE FROM inbox WHERE (room, person, seq) IN (
      SELECT room, person, seq FROM inbox AS old
      WHERE time > p_from AND time <= v_to AND EXISTS (
        SELECT FROM inbox AS newer
        WHERE newer.room = old.room AND newer.person = old.person AND newer.seq > old.seq)
      FOR UPDATE SKIP LOCKED);
    RETURN v_to;
  END $fn$;

  -- Drops old visits and old ended instances. Returns NULL when no more are left.
  CREATE FUNCTION clean_visits_v1(p_now bigint, p_age bigint, p_limit bigint) RETURNS bigint
  LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  DECLARE v_now bigint := now_v1(p_now); v_count bigint;
  BEGIN
    DELETE FROM instances WHERE name IN (
      SELECT name FROM instances WHERE expires < v_now - 86400000 AND ended
        AND NOT EXISTS (SELECT FROM presence WHERE instance = instances.name)
      LIMIT p_limit FOR UPDATE SKIP LOCKED);
    DELETE FROM visits WHERE (room, key) IN (
      SELECT room, key FROM visits WHERE ended < v_now - p_age
      ORDER BY ended LIMIT p_limit FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN CASE WHEN v_count = p_limit THEN v_count END;
  END $fn$;

  -- Removes the rows of rooms with nothing stored and nobody present. Checks p_limit rows after an
  -- id; returns the id to continue from, or NULL at the end. A room that gets a row again gets
  -- numbers higher than all earlier ones.
  CREATE FUNCTION clean_rooms_v1(p_from bigint, p_limit bigint) RETURNS bigint
  LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  DECLARE v_to bigint; v_ids bigint[]; v_number bigint;
  BEGIN
    SELECT max(t.id) INTO v_to FROM (
      SELECT id FROM rooms WHERE id > p_from ORDER BY id LIMIT p_limit) AS t;
    -- The next statement checks the presences again, now that the rows are locked.
    SELECT array_agg(t.id) INTO v_ids FROM (
      SELECT id FROM rooms
      WHERE id > p_from AND id <= v_to AND last_seq = 0 AND settings = 0 AND name <> ''
        AND NOT EXISTS (SELECT FROM presence WHERE room = rooms.id)
      FOR UPDATE SKIP LOCKED) AS t;
    WITH deleted AS (
      DELETE FROM rooms WHERE id = ANY (v_ids)
        AND NOT EXISTS (SELECT FROM presence WHERE room = rooms.id)
        AND NOT EXISTS (SELECT FROM inbox WHERE room = rooms.id)
      RETURNING greatest(presence, privates) AS number
    ) SELECT max(number) INTO v_number FROM deleted;
    UPDATE epochs SET first_number = v_number
    WHERE id = (SELECT max(id) FROM epochs) AND first_number < v_number;
    RETURN v_to;
  END $fn$;
`;

/** The functions for accounts, sessions and the erasure of removed accounts. */
const PEOPLE = `
  CREATE FUNCTION add_account_v1(
    p_epoch integer, p_deadline double precision, p_key text, p_username text, p_hash text
  ) RETURNS text LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  BEGIN
    IF late_v1(p_deadline) THEN RETURN 'late'; END IF;
    INSERT INTO accounts VALUES (p_key, p_username, p_hash) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN RETURN 'false'; END IF;
    PERFORM everywhere_v1(p_epoch, json_build_object('type', 'registered', 'key', p_key)::text);
    RETURN 'true';
  END $fn$;

  CREATE FUNCTION end_tokens_v1(p_epoch integer, p_deadline double precision, p_account text, p_kept text)
  RETURNS text LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  BEGIN
    IF late_v1(p_deadline) THEN RETURN 'late'; END IF;
    -- One at a time: two calls that delete the same sessions could deadlock.
    PERFORM FROM accounts WHERE key = p_account FOR UPDATE;
    DELETE FROM sessions WHERE account = p_account AND hash <> p_kept;
    PERFORM everywhere_v1(p_epoch,
      json_build_object('type', 'tokens_ended', 'account', p_account, 'kept', p_kept)::text);
    RETURN 'true';
  END $fn$;

  CREATE FUNCTION end_token_v1(p_epoch integer, p_deadline double precision, p_hash text)
  RETURNS text LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  BEGIN
    IF late_v1(p_deadline) THEN RETURN 'late'; END IF;
    DELETE FROM sessions WHERE hash = p_hash;
    PERFORM everywhere_v1(p_epoch, json_build_object('type', 'token_ended', 'hash', p_hash)::text);
    RETURN 'true';
  END $fn$;

  CREATE FUNCTION add_token_v1(
    p_now bigint, p_deadline double precision, p_hash text, p_account text, p_expires double precision
  ) RETURNS text LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  BEGIN
    IF late_v1(p_deadline) THEN RETURN 'late'; END IF;
    DELETE FROM sessions WHERE hash IN (
      SELECT hash FROM sessions WHERE expires_at <= now_v1(p_now)
      ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED);
    INSERT INTO sessions VALUES (p_hash, p_account, p_expires) ON CONFLICT DO NOTHING;
    RETURN 'true';
  END $fn$;

  CREATE FUNCTION set_password_v1(
    p_epoch integer, p_deadline double precision, p_key text, p_hash text, p_kept text
  ) RETURNS text LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  BEGIN
    IF late_v1(p_deadline) THEN RETURN 'late'; END IF;
    UPDATE accounts SET password_hash = p_hash WHERE key = p_key AND username <> '';
    IF NOT FOUND THEN RETURN 'false'; END IF;
    PERFORM end_tokens_v1(p_epoch, NULL, p_key, p_kept);
    RETURN 'true';
  END $fn$;

  CREATE FUNCTION remove_account_v1(p_epoch integer, p_deadline double precision, p_key text)
  RETURNS text LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  BEGIN
    IF late_v1(p_deadline) THEN RETURN 'late'; END IF;
    UPDATE accounts SET username = '', password_hash = 'erasing' WHERE key = p_key AND username <> '';
    IF NOT FOUND THEN RETURN 'false'; END IF;
    INSERT INTO erasures (account) VALUES (p_key) ON CONFLICT DO NOTHING;
    PERFORM end_tokens_v1(p_epoch, NULL, p_key, '');
    RETURN 'true';
  END $fn$;

  -- The next step of an erasure: the account, the range of events, the first room in it with
  -- something to check, and the names in its changes and the account's events.
  CREATE FUNCTION erasing_v1(p_prefix text) RETURNS text LANGUAGE plpgsql STABLE ${SETTINGS}
  AS $fn$
  DECLARE g erasures; v_end record; v_room bigint; v_names text[];
  BEGIN
    SELECT * INTO g FROM erasures ORDER BY account LIMIT 1;
    IF NOT FOUND THEN RETURN 'null'; END IF;
    SELECT room, seq INTO v_end FROM (
      SELECT room, seq FROM events WHERE (room, seq) > (g.room, g.seq) ORDER BY room, seq LIMIT 1000
    ) AS w ORDER BY room DESC, seq DESC LIMIT 1;
    SELECT room INTO v_room FROM events
    WHERE (room, seq) > (g.room, g.seq) AND (room, seq) <= (v_end.room, v_end.seq)
      AND (person = p_prefix || g.account OR type <> 'chat')
    ORDER BY room, seq LIMIT 1;
    SELECT array_agg(DISTINCT username) INTO v_names FROM events
    WHERE room = v_room AND (room, seq) > (g.room, g.seq) AND (room, seq) <= (v_end.room, v_end.seq)
      AND (person = p_prefix || g.account OR type <> 'chat');
    RETURN json_build_array(g.account, g.room, g.seq, v_end.room, v_end.seq, v_room, v_names);
  END $fn$;

  -- Erases an account's text and name from these events, in one room, unless another instance did
  -- it. p_names are the names that are the account's. Messages among the p_live newest events of
  -- the room are deleted one by one.
  CREATE FUNCTION erase_v1(
    p_epoch integer, p_now bigint, p_deadline double precision, p_account text, p_person text,
    p_from_room bigint, p_from_seq bigint, p_to_room bigint, p_to_seq bigint, p_room bigint,
    p_names text[], p_live bigint
  ) RETURNS text LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  DECLARE
    v_start bigint; g erasures; r rooms; e events; f events; v_ids bigint[] := '{}'; v_id text;
    v_to bigint; v_read integer := 0; v_items text[] := '{}'; v_epochs integer[] := '{}';
    v_inbox bigint;
  BEGIN
    IF late_v1(p_deadline) THEN RETURN 'late'; END IF;
    v_start := check_v1(p_epoch);
    -- Private messages first, one room at a time.
    v_inbox := coalesce((SELECT room FROM inbox WHERE person = p_person LIMIT 1),
      (SELECT room FROM inbox WHERE from_person = p_person LIMIT 1));
    SELECT * INTO r FROM rooms WHERE id = coalesce(v_inbox, p_room) FOR UPDATE;
    SELECT * INTO g FROM erasures WHERE account = p_account FOR UPDATE;
    IF (g.room, g.seq) IS DISTINCT FROM (p_from_room, p_from_seq) THEN RETURN 'true'; END IF;

    IF v_inbox IS NOT NULL THEN
      DELETE FROM inbox WHERE (room, person, seq) IN (
        SELECT room, person, seq FROM inbox WHERE room = v_inbox AND person = p_person LIMIT 200);
      UPDATE inbox SET content = '', from_name = '', from_person = '', ref = NULL
      WHERE (room, person, seq) IN (
        SELECT room, person, seq FROM inbox WHERE room = v_inbox AND from_person = p_person LIMIT 200);
      RETURN 'true';
    END IF;

    IF p_to_room IS NULL THEN
      DELETE FROM erasures WHERE account = p_account;
      UPDATE accounts SET password_hash = '' WHERE key = p_account;
      RETURN 'true';
    END IF;
    IF p_room IS NULL THEN
      UPDATE erasures SET room = p_to_room, seq = p_to_seq WHERE account = p_account;
      RETURN 'true';
    END IF;
    v_to := CASE p_room WHEN p_to_room THEN p_to_seq ELSE r.last_seq END;
    FOR e IN
      SELECT * FROM events
      WHERE room = p_room AND seq > CASE p_room WHEN p_from_room THEN p_from_seq ELSE 0 END
        AND seq <= v_to AND (person = p_person OR type <> 'chat')
      ORDER BY seq
    LOOP
      IF e.type = 'chat' THEN
        IF e.shown AND r.last_seq - e.seq < p_live THEN
          v_id := (SELECT name FROM epochs WHERE id = e.epoch) || '-'
            || left(encode(sha256(convert_to(r.name, 'UTF8')), 'hex'), 16) || '-' || e.seq;
          r.last_seq := r.last_seq + 1;
          r.active := greatest(r.active, now_v1(p_now));
          f := change_v1(e, p_epoch, r.last_seq, r.active, 'erase', v_id, '', '');
          v_items := v_items || ('["logged","",' || row_v1(f) || ']');
        ELSE
          v_ids := v_ids || e.seq;
          v_epochs := v_epochs || e.epoch;
          UPDATE events SET content = '', username = '', person = '', ref = NULL, reply_to = NULL,
            shown = false
          WHERE room = p_room AND seq = e.seq;
        END IF;
      ELSIF e.person = p_person OR e.username = ANY (p_names) THEN
        UPDATE events SET
          content = CASE person WHEN p_person THEN '' ELSE content END,
          person = CASE person WHEN p_person THEN '' ELSE person END,
          username = CASE WHEN username = ANY (p_names) THEN '' ELSE username END
        WHERE room = p_room AND seq = e.seq;
      END IF;
      v_read := v_read + 1;
      IF v_read >= 100 THEN
        v_to := e.seq;
        EXIT;
      END IF;
    END LOOP;
    IF cardinality(v_ids) > 0 THEN
      r.erasures := r.erasures + 1;
      v_items := v_items
        || json_build_array('erased', r.erasures, to_json(v_epochs), to_json(v_ids))::text;
    END IF;
    UPDATE rooms SET last_seq = r.last_seq, active = r.active, erasures = r.erasures WHERE id = p_room;
    UPDATE erasures SET room = p_room, seq = v_to WHERE account = p_account;
    PERFORM tell_v1(p_epoch, v_start, array_fill(r.name, ARRAY[cardinality(v_items)]), v_items);
    RETURN 'true';
  END $fn$;
`;

/** The tokens of bots, which are sessions with a name. */
const BOTS = `
  CREATE UNIQUE INDEX sessions_name ON sessions (account, name) WHERE name IS NOT NULL;

  CREATE FUNCTION add_bot_v1(
    p_deadline double precision, p_hash text, p_account text, p_expires double precision,
    p_name text, p_created bigint, p_most bigint
  ) RETURNS text LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  BEGIN
    IF late_v1(p_deadline) THEN RETURN 'late'; END IF;
    -- One at a time: two calls at once would count the same tokens.
    PERFORM FROM accounts WHERE key = p_account FOR UPDATE;
    INSERT INTO sessions
    SELECT p_hash, p_account, p_expires, p_name, p_created
    WHERE (SELECT count(*) FROM sessions WHERE account = p_account AND name IS NOT NULL) < p_most
    ON CONFLICT DO NOTHING;
    RETURN CASE WHEN FOUND THEN 'true' ELSE 'false' END;
  END $fn$;

  CREATE FUNCTION end_bot_v1(p_epoch integer, p_deadline double precision, p_account text, p_name text)
  RETURNS text LANGUAGE plpgsql ${SETTINGS}
  AS $fn$
  DECLARE v_hash text;
  BEGIN
    IF late_v1(p_deadline) THEN RETURN 'late'; END IF;
    DELETE FROM sessions WHERE account = p_account AND name = p_name RETURNING hash INTO v_hash;
    IF NOT FOUND THEN RETURN 'false'; END IF;
    PERFORM everywhere_v1(p_epoch, json_build_object('type', 'token_ended', 'hash', v_hash)::text);
    RETURN 'true';
  END $fn$;
`;

/** Creates everything in an empty schema. */
export const SCHEMA = [TABLES, BASICS, TURN, READING, LEASES, PEOPLE, BOTS].join("\n");

/** Updates version 1 to version 2. */
export const UPDATE = `
  ALTER TABLE sessions ADD COLUMN name text, ADD COLUMN created bigint;
  ${BOTS}
`;
