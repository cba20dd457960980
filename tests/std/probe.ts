/**
 * Prints the arguments that `deno test` and `deno check` need here: none if JSR can be reached, else
 * the import map that replaces `@std` by the stand-ins of this folder.
 *
 * @module
 */

const TIMEOUT_MS = 10_000;

// Not literal in the import call, so that they stay out of the module graph.
const modules = ["@std/assert", "@std/testing/bdd", "@std/testing/time"];

try {
  await Promise.race([
    Promise.all(modules.map((name) => import(name))),
    new Promise((_, reject) => setTimeout(() => reject(new Error("it took too long")), TIMEOUT_MS)),
  ]);
} catch (error) {
  const reason = (error as Error).message.split("\n")[0];
  // deno-lint-ignore no-console
  console.error(`JSR cannot be reached (${reason}): tests use the stand-ins in tests/std.`);
  // deno-lint-ignore no-console
  console.log("--import-map=tests/std/import_map.json");
}
Deno.exit();
