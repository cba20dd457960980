/** Step 6: an error closes one socket, and never ends the process. */

import { Hono } from "hono";

type Member = { room: Room; username: string; socket: WebSocket };
type Room = { members: Map<string, Member> };

/** How long a silent peer counts as alive. The runtime sends a ping after half of it. */
const IDLE_SECONDS = Number(Deno.env.get("IDLE_SECONDS") ?? 30);
/** How many bytes may wait for one member. */
const MAX_WAITING = 1024 * 1024;

const rooms = new Map<string, Room>();

function openRoom(name: string): Room {
  const room = rooms.get(name) ?? { members: new Map() };
  rooms.set(name, room);
  return room;
}

function join(member: Member): void {
  const { room, username, socket } = member;
  // Somebody else may have taken the name since the request.
  if (room.members.has(username)) return socket.close(4009, "name in use");
  room.members.set(username, member);
  tell(room, { type: "joined", username, users: [...room.members.keys()] });
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

function receive(member: Member, data: string): void {
  const { room, username } = member;
  // A member that was dropped may still be sending.
  if (room.members.get(username) !== member) return;
  tell(room, { type: "chat", username, content: JSON.parse(data).content });
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
  const { username } = c.req.query();
  if (!username) return c.json({ error: "username is required" }, 400);
  if (room.members.has(username)) return c.json({ error: "name in use" }, 409);
  const { socket, response } = Deno.upgradeWebSocket(c.req.raw, { idleTimeout: IDLE_SECONDS });
  const member: Member = { room, username, socket };
  socket.onopen = () => guard(member, () => join(member));
  socket.onmessage = ({ data }) => guard(member, () => receive(member, data));
  socket.onclose = () => guard(member, () => leave(member));
  return response;
});

Deno.serve({ port: Number(Deno.env.get("PORT") ?? 8080) }, app.fetch);
