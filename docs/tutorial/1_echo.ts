/** Step 1: a server that returns what it receives. */

import { Hono } from "hono";

const app = new Hono();

app.get("/ws/:room", (c) => {
  if (c.req.header("upgrade")?.toLowerCase() !== "websocket") {
    return c.json({ error: "upgrade required" }, 426);
  }
  const { socket, response } = Deno.upgradeWebSocket(c.req.raw);
  socket.onmessage = ({ data }) => socket.send(data);
  return response;
});

Deno.serve({ port: Number(Deno.env.get("PORT") ?? 8080) }, app.fetch);
