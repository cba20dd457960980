// A chat server on Node and Socket.IO, with its defaults.
//
//   PORT=8080 node socketio.mjs

import { Server } from "socket.io";

const server = new Server({ transports: ["websocket"] });
let id = 0;

server.on("connection", (socket) => {
  const { room, username } = socket.handshake.query;
  socket.join(room);
  socket.on("chat", (content) => {
    const timestamp = new Date().toISOString();
    server.to(room).emit("chat", { type: "chat", content, room, username, id: ++id, timestamp });
  });
});
server.listen(Number(process.env.PORT));
