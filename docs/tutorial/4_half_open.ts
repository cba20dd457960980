/** Step 4: a socket joins when it is open, and leaves once. */

import { Hono } from "hono";

type Member = { room: Room; username: string; socket: WebSocket };
type Room = { members: Map<string, Member> };

/** How long a silent peer counts as alive. The runtime sends a ping after half of it. */
const IDLE_SECONDS = Number(Deno.env.get("IDLE_SECONDS") ?? 30);

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

function tell({ members }: Room, event: object): void {
  const text = JSON.stringify(event);
  for (const { socket } of members.values()) socket.send(text);
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
  socket.onopen = () => join(member);
  socket.onmessage = ({ data }) => {
    tell(room, { type: "chat", username, content: JSON.parse(data).content });
  };
  socket.onclose = () => leave(member);
  return response;
});

Deno.serve({ port: Number(Deno.env.get("PORT") ?? 8080) }, app.fetch);
