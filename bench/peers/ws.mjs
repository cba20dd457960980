// A chat server on Node and ws: makes one frame for each message, and sends it to each member.
//
//   PORT=8080 node ws.mjs

import { WebSocketServer } from "ws";

/** @type {Map<string, Set<import("ws").WebSocket>>} */
const rooms = new Map();
let id = 0;

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.env.PORT) });
server.on("connection", (socket, request) => {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  const room = pathname.slice("/ws/".length);
  const username = searchParams.get("username");
  let members = rooms.get(room);
  if (members === undefined) rooms.set(room, members = new Set());
  members.add(socket);

  socket.on("message", (data) => {
    const timestamp = new Date().toISOString();
    const content = data.toString();
    const event = { type: "chat", content, room, username, id: ++id, timestamp };
    const frame = Buffer.from(JSON.stringify(event));
    for (const member of members) member.send(frame, { binary: false });
  });
  socket.on("close", () => {
    members.delete(socket);
    if (members.size === 0 && rooms.get(room) === members) rooms.delete(room);
  });
  socket.on("error", () => {});
});
