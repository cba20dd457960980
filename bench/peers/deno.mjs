// The smallest chat server on Deno: sends each message to each member at once, in one frame.
// Members that ask for `chat.v1` get the frames that Hubbub sends for a message, the `ack`
// included. It checks and limits nothing, stores messages only as `store`, and announces joins only
// as `join`.
//
//   PORT=8080 deno run -A deno.mjs          a chat server
//   PORT=8080 deno run -A deno.mjs turn     sends one frame a turn to each member
//   PORT=8080 deno run -A deno.mjs fair     the same, and reads every waiting socket first
//   PORT=8080 FOLDER=. deno run -A deno.mjs store    as `fair`, and stores messages in SQLite first
//   PORT=8080 deno run -A deno.mjs join     announces joins at Hubbub's pace
//   PORT=8080 deno run -A deno.mjs bare     WebSockets that do nothing

import { DatabaseSync } from "node:sqlite";
import { setImmediate } from "node:timers";

const [how = "each"] = Deno.args;

/** A room: its members, and the events for all and for single members at the end of the turn. */
const createRoom = () => ({ members: new Set(), news: [], acks: new Map(), names: [], told: 0 });

/** @type {Map<string, ReturnType<typeof createRoom>>} */
const rooms = new Map();
const changed = new Set();
/** The sockets that a fair server has read since the turn began or last read on. */
let heard = new Set();
const isFair = how === "fair" || how === "store";
let id = 0;

/** Stores the messages of a turn: one transaction, one row and one index entry for each. */
const store = how === "store" ? openStore(`${Deno.env.get("FOLDER")}/chat.db`) : undefined;
const rows = [];

function openStore(path) {
  const db = new DatabaseSync(path);
  db.exec(`
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE messages (
      id INTEGER PRIMARY KEY, room TEXT, seq INTEGER, time TEXT, username TEXT, content TEXT, ref TEXT
    );
    CREATE UNIQUE INDEX messages_place ON messages (room, seq);
  `);
  const insert = db.prepare(`
    INSERT INTO messages (room, seq, time, username, content, ref) VALUES (?, ?, ?, ?, ?, ?)
  `);
  return () => {
    db.exec("BEGIN");
    for (const row of rows.splice(0)) insert.run(...row);
    db.exec("COMMIT");
  };
}

function send(socket, frame) {
  if (socket.readyState === WebSocket.OPEN) socket.send(frame);
}

function deliver() {
  store?.();
  for (const room of changed) {
    const news = room.news.join(",");
    for (const member of room.members) {
      const acks = room.acks.get(member);
      send(member, acks === undefined ? `[${news}]` : `[${news},${acks.join(",")}]`);
    }
    room.news = [];
    room.acks = new Map();
  }
  changed.clear();
}

/** Delivers at the end of the turn. A fair server reads on while a hundred sockets had news. */
function endTurn(reads = 16) {
  setImmediate(() => {
    const readsOn = heard.size >= 100 && reads > 0;
    if (isFair) heard = new Set();
    if (readsOn) setTimeout(endTurn, 0, reads - 1);
    else deliver();
  });
}

/** Sends a message to all now, or at the end of the turn. */
function tell(room, socket, chat, ack) {
  if (how === "each") {
    for (const member of room.members) send(member, chat);
    if (ack !== undefined) send(socket, ack);
    return;
  }
  room.news.push(chat);
  if (ack !== undefined) room.acks.set(socket, [...room.acks.get(socket) ?? [], ack]);
  if (changed.size === 0) endTurn();
  changed.add(room);
  if (isFair) heard.add(socket);
}

/** Welcomes a newcomer with the first 100 names, and schedules the announcement of its join. */
function welcome(room, socket, name) {
  // As long as Hubbub gathers a crowd's notices (lib/room/notices.ts).
  if (room.names.length === room.told) setTimeout(announce, Math.max(50, room.told / 10), room);
  room.names.push(name);
  const users = room.names.slice(0, 100).map((username) => ({ username }));
  send(socket, JSON.stringify({ type: "welcome", content: "", users, online: room.names.length }));
}

function announce(room) {
  const news = room.names.slice(room.told);
  room.told = room.names.length;
  const joined = news.slice(0, 50);
  const event = { type: "presence", joined, joined_count: news.length, online: room.told };
  const text = JSON.stringify(event);
  for (const member of room.members) send(member, text);
}

Deno.serve({ hostname: "127.0.0.1", port: Number(Deno.env.get("PORT")) }, (request) => {
  const isV1 = request.headers.get("sec-websocket-protocol") === "chat.v1";
  const { socket, response } = Deno.upgradeWebSocket(request, isV1 ? { protocol: "chat.v1" } : {});
  if (how === "bare") return response;

  const { pathname, searchParams } = new URL(request.url);
  const name = pathname.slice("/ws/".length);
  const username = searchParams.get("username");
  const room = rooms.get(name) ?? createRoom();
  rooms.set(name, room);
  socket.onopen = () => {
    room.members.add(socket);
    if (how === "join") welcome(room, socket, username);
  };
  socket.onmessage = ({ data }) => {
    const { content, ref } = isV1 ? JSON.parse(data) : { content: data };
    const timestamp = new Date().toISOString();
    const base = { room: name, id: String(++id), seq: id, timestamp };
    const ack = { type: "ack", content: "", username: "", ref, ...base };
    if (store !== undefined) rows.push([name, id, timestamp, username, content, ref ?? null]);
    tell(
      room,
      socket,
      JSON.stringify({ type: "chat", content, username, ...base }),
      ref === undefined ? undefined : JSON.stringify(ack),
    );
  };
  socket.onclose = () => {
    room.members.delete(socket);
    if (room.members.size === 0 && rooms.get(name) === room) rooms.delete(name);
  };
  return response;
});
