/** Node, for tests of modules that must run there. */

import { it } from "@std/testing/bdd";

const NO_NODE =
  "Skipped: Node 22 or newer is not in PATH. NODE22 may say where it is: npx -y -p node@22 which node.";

const node = findNode22();
const isRequired = Deno.env.get("REQUIRE_ALL") === "1";
if (node === undefined) {
  // deno-lint-ignore no-console
  console.log(NO_NODE);
}

/** A test that needs Node. Skipped visibly without one. */
export const itInNode = node === undefined && !isRequired ? it.skip : it;

/** Runs a module in Node. @returns its two outputs */
export async function runInNode(script: string): Promise<[out: string, err: string]> {
  if (node === undefined) throw new Error(NO_NODE);
  const args = ["--input-type=module", "--eval", script];
  const { stdout, stderr } = await new Deno.Command(node, { args }).output();
  return [new TextDecoder().decode(stdout), new TextDecoder().decode(stderr)];
}

/** The path of Node, if it is new enough to have `WebSocket`. */
function findNode22(): string | undefined {
  const node = Deno.env.get("NODE22") ?? "node";
  try {
    const { stdout } = new Deno.Command(node, { args: ["--version"] }).outputSync();
    const version = new TextDecoder().decode(stdout);
    return Number(/^v(\d+)/.exec(version)?.[1]) >= 22 ? node : undefined;
  } catch {
    return undefined;
  }
}
