/** Step 2: everyone in a room receives what one of them sends. */

import { Hono } from "hono";

type Room = Set<WebSocket>;

const rooms = new Map<string, Room>();

function openRoom(name: string): Room {
  const room = rooms.get(name) ?? new Set();
  rooms.set(name, room);
  return room;
}

function tell(room: Room, text: string): void {
  for (const socket of room) socket.send(text);
}

const app = new Hono();

app.get("/ws/:room", (c) => {
  if (c.req.header("upgrade")?.toLowerCase() !== "websocket") {
    return c.json({ error: "upgrade required" }, 426);
  }
  const room = openRoom(c.req.param("room"));
  const { socket, response } = Deno.upgradeWebSocket(c.req.raw);
  socket.onopen = () => room.add(socket);
  socket.onmessage = ({ data }) => tell(room, data);
  socket.onclose = () => room.delete(socket);
  return response;
});

Deno.serve({ port: Number(Deno.env.get("PORT") ?? 8080) }, app.fetch);
