/** Runs the server of a step, and prints what it uses whenever a line comes in. */

import process from "node:process";

await import(Deno.args[0]!);
for await (const _line of Deno.stdin.readable) {
  const { user, system } = process.cpuUsage();
  // deno-lint-ignore no-console
  console.log(JSON.stringify({ memory: Deno.memoryUsage().rss, cpu: user + system }));
}
// The experiment has ended.
Deno.exit();
