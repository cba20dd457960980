/** A port for a program that cannot choose one itself, or that must come back on the same port. */

/**
 * Ports below those that systems give to outgoing connections and to servers on port 0. A port from
 * among those could be taken before it is used, or while its server restarts.
 */
const FIRST = 20_000;
const LAST = 32_000;

/** A port that was free just now, chosen at random. */
export function freePort(): number {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}
