// A chat server on Bun, with Bun's own publish for the fan-out: one frame for each message, and one
// write to each member for all frames of a turn of the event loop.
//
//   PORT=8080 bun bun.mjs

let id = 0;

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const data = { room: pathname.slice("/ws/".length), username: searchParams.get("username") };
    return server.upgrade(request, { data }) ? undefined : new Response(null, { status: 400 });
  },
  websocket: {
    open(socket) {
      socket.subscribe(socket.data.room);
    },
    message(socket, content) {
      const { room, username } = socket.data;
      const timestamp = new Date().toISOString();
      const event = { type: "chat", content, room, username, id: ++id, timestamp };
      server.publish(room, JSON.stringify(event));
    },
  },
});
