// The least that is a chat server on Deno: each message is sent to each member at once, as a frame
// of its own. Members who ask for `chat.v1` get the frames that Hubbub sends for a message, the
// `ack` included; nothing is stored.
//
//   PORT=8080 deno run -A deno.mjs          a chat server
//   PORT=8080 deno run -A deno.mjs bare     WebSockets that do nothing

const isBare = Deno.args[0] === "bare";

/** @type {Map<string, Set<WebSocket>>} */
const rooms = new Map();
let id = 0;

Deno.serve({ hostname: "127.0.0.1", port: Number(Deno.env.get("PORT")) }, (request) => {
  const isV1 = request.headers.get("sec-websocket-protocol") === "chat.v1";
  const { socket, response } = Deno.upgradeWebSocket(request, isV1 ? { protocol: "chat.v1" } : {});
  if (isBare) return response;

  const { pathname, searchParams } = new URL(request.url);
  const room = pathname.slice("/ws/".length);
  const username = searchParams.get("username");
  let members = rooms.get(room);
  if (members === undefined) rooms.set(room, members = new Set());
  socket.onopen = () => members.add(socket);
  socket.onmessage = ({ data }) => {
    const { content, ref } = isV1 ? JSON.parse(data) : { content: data };
    const base = { room, id: String(++id), seq: id, timestamp: new Date().toISOString() };
    const frame = JSON.stringify({ type: "chat", content, username, ...base });
    for (const member of members) if (member.readyState === WebSocket.OPEN) member.send(frame);
    if (ref !== undefined) {
      socket.send(JSON.stringify({ type: "ack", content: "", username: "", ref, ...base }));
    }
  };
  socket.onclose = () => {
    members.delete(socket);
    if (members.size === 0 && rooms.get(room) === members) rooms.delete(room);
  };
  return response;
});
