/** Step 3: members have names, and the room hears who joins and leaves. */

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

function tell({ members }: Room, event: object): void {
  const text = JSON.stringify(event);
  for (const { socket } of members.values()) {
    if (socket.readyState === WebSocket.OPEN) socket.send(text);
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
  room.members.set(username, { room, username, socket });
  socket.onopen = () => tell(room, { type: "joined", username, users: [...room.members.keys()] });
  socket.onmessage = ({ data }) => {
    tell(room, { type: "chat", username, content: JSON.parse(data).content });
  };
  socket.onclose = () => {
    room.members.delete(username);
    tell(room, { type: "left", username });
  };
  return response;
});

Deno.serve({ port: Number(Deno.env.get("PORT") ?? 8080) }, app.fetch);
