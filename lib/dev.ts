/**
 * Runs the server, and restarts it when a file changes:
 *
 *     deno task dev
 *
 * Deno's watcher ends only at SIGINT: at any other signal the server ends, and the watcher waits for
 * a change. So this program starts the watcher, and passes each signal on as SIGINT.
 *
 * @module
 */

import { onEndSignal } from "./process.ts";

if (import.meta.main) {
  const watcher = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--watch", "main.ts"],
  }).spawn();
  onEndSignal(() => watcher.kill("SIGINT"));
  const { code } = await watcher.status;
  Deno.exit(code);
}
