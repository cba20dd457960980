/**
 * Counts round trips, as a proxy between a client and a server on this machine.
 *
 * @module
 */

/** A port that forwards to another one. */
export class Meter implements Disposable {
  /** Requests that began after the answer to the one before, over all connections. */
  roundTrips = 0;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #target: number;

  constructor(target: number) {
    this.#target = target;
    this.#acceptAll();
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  [Symbol.dispose](): void {
    this.#listener.close();
  }

  async #acceptAll(): Promise<void> {
    for await (const client of this.#listener) {
      const server = await Deno.connect({ hostname: "127.0.0.1", port: this.#target });
      let isAnswered = true;
      pipe(client, server, () => {
        if (isAnswered) this.roundTrips++;
        isAnswered = false;
      });
      pipe(server, client, () => isAnswered = true);
    }
  }
}

async function pipe(from: Deno.Conn, to: Deno.Conn, onChunk: () => void): Promise<void> {
  const watch = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      onChunk();
      controller.enqueue(chunk);
    },
  });
  // Either end may break off.
  await from.readable.pipeThrough(watch).pipeTo(to.writable).catch(() => {});
}
