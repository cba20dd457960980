/** A cheating server: it forwards everything between clients and an honest one, except its lies. */

import type { Event } from "../../lib/protocol/events.ts";

/** Turns one event into the events that a client gets. */
export type Lie = (event: Event) => Event | readonly Event[];

/** A server in between, as an operator could run one. */
export class CheatingServer implements AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** The lie for each event. @default none */
  lie: Lie = (event) => event;
  /** Every forwarded event, as the honest server sent it. */
  readonly seen: Event[] = [];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #clients = new Set<WebSocket>();

  /**
   * @param ws the honest server, `ws://127.0.0.1:PORT`
   * @param path the path of this one, such as `/chat`
   */
  constructor(ws: string, path = "") {
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
      const { pathname, search } = new URL(request.url);
      if (request.headers.get("upgrade") !== "websocket") {
        return Response.json({ error: "upgrade required" }, { status: 426 });
      }
      const { socket, response } = Deno.upgradeWebSocket(request, { protocol: "chat.v1" });
      this.#pass(socket, new WebSocket(ws + pathname.slice(path.length) + search, "chat.v1"));
      return response;
    });
    this.url = `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** Sends an event to every client. */
  say(event: Event): void {
    for (const client of this.#clients) client.send(JSON.stringify(event));
  }

  #pass(client: WebSocket, server: WebSocket): void {
    const waiting: string[] = [];
    client.onopen = () => this.#clients.add(client);
    client.onmessage = ({ data }) =>
      server.readyState === 1 ? server.send(data) : waiting.push(data);
    client.onclose = () => {
      this.#clients.delete(client);
      server.close();
    };
    server.onopen = () => waiting.forEach((data) => server.send(data));
    server.onmessage = ({ data }) => {
      const events: Event[] = [JSON.parse(data)].flat();
      this.seen.push(...events);
      const told = events.flatMap((event) => this.lie(event));
      if (told.length > 0) client.send(JSON.stringify(told));
    };
    server.onclose = () => client.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.#server.shutdown();
  }
}
