/** Step 8: messages have numbers, and who comes back gets what it missed. */

import { Hono } from "hono";

type Member = { room: Room; username: string; socket: WebSocket; mayTalk: () => boolean };
type Room = { members: Map<string, Member>; log: Chat[] };
type Chat = { type: "chat"; seq: number; username: string; content: string };

/** How long a silent peer counts as alive. The runtime sends a ping after half of it. */
const IDLE_SECONDS = Number(Deno.env.get("IDLE_SECONDS") ?? 30);
/** How many bytes may wait for one member. */
const MAX_WAITING = 1024 * 1024;
/** How many characters a frame may have. */
const MAX_FRAME = 4096;
/** How many messages a member may send a second, and how many at once. */
const [RATE, BURST] = [10, 30];

const rooms = new Map<string, Room>();

function openRoom(name: string): Room {
  const room = rooms.get(name) ?? { members: new Map(), log: [] };
  rooms.set(name, room);
  return room;
}

function join(member: Member, after: number): void {
  const { room, username, socket } = member;
  // Somebody else may have taken the name since the request.
  if (room.members.has(username)) return socket.close(4009, "name in use");
  room.members.set(username, member);
  tell(room, { type: "joined", username, users: [...room.members.keys()] });
  for (const chat of room.log.slice(after)) send(member, JSON.stringify(chat));
}

function leave(member: Member): void {
  const { room, username } = member;
  // A socket may close twice, and by then the name may have a new holder.
  if (room.members.get(username) !== member) return;
  room.members.delete(username);
  tell(room, { type: "left", username });
}

function drop(member: Member, code: number, reason: string): void {
  // A peer that does not read never completes the close, so it leaves first.
  leave(member);
  member.socket.close(code, reason);
}

function tell({ members }: Room, event: object): void {
  const text = JSON.stringify(event);
  for (const member of members.values()) send(member, text);
}

function send(member: Member, text: string): void {
  if (member.socket.bufferedAmount <= MAX_WAITING) member.socket.send(text);
  else drop(member, 4008, "too slow");
}

function receive(member: Member, data: unknown): void {
  const { room, username } = member;
  // A member that was dropped may still be sending.
  if (room.members.get(username) !== member) return;
  if (!member.mayTalk()) return drop(member, 4029, "too many messages");
  if (typeof data !== "string") return drop(member, 1003, "text only");
  if (data.length > MAX_FRAME) return drop(member, 1009, "too big");
  const { content } = JSON.parse(data);
  if (typeof content !== "string") return drop(member, 1008, "content must be a string");
  const chat: Chat = { type: "chat", seq: room.log.length + 1, username, content };
  room.log.push(chat);
  tell(room, chat);
}

/** Makes a bucket of tokens: each message takes one, and time brings them back. */
function makeBucket(): () => boolean {
  let [tokens, at] = [BURST, performance.now()];
  return () => {
    const now = performance.now();
    tokens = Math.min(BURST, tokens + (now - at) * RATE / 1000);
    at = now;
    if (tokens < 1) return false;
    tokens--;
    return true;
  };
}

/** Calls a handler. An error that it throws would otherwise end the process. */
function guard(member: Member, handle: () => void): void {
  try {
    handle();
  } catch (error) {
    // deno-lint-ignore no-console
    console.error(error);
    drop(member, 1011, "internal error");
  }
}

const app = new Hono();

app.get("/ws/:room", (c) => {
  if (c.req.header("upgrade")?.toLowerCase() !== "websocket") {
    return c.json({ error: "upgrade required" }, 426);
  }
  const room = openRoom(c.req.param("room"));
  const { username, after = "0" } = c.req.query();
  if (!username) return c.json({ error: "username is required" }, 400);
  if (room.members.has(username)) return c.json({ error: "name in use" }, 409);
  const { socket, response } = Deno.upgradeWebSocket(c.req.raw, { idleTimeout: IDLE_SECONDS });
  const member: Member = { room, username, socket, mayTalk: makeBucket() };
  socket.onopen = () => guard(member, () => join(member, Number(after)));
  socket.onmessage = ({ data }) => guard(member, () => receive(member, data));
  socket.onclose = () => guard(member, () => leave(member));
  return response;
});

Deno.serve({ port: Number(Deno.env.get("PORT") ?? 8080) }, app.fetch);
