/** The docs in the code. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { filesIn } from "../support/docs.ts";

const ROOT = new URL("../../", import.meta.url);

interface Declaration {
  jsDoc?: { doc?: string };
  declarationKind?: string;
  /** What it is; `reference` for what another module declares. */
  kind?: string;
}

interface Documented extends Declaration {
  name: string;
  declarations?: Declaration[];
}

/** Runs `deno doc`. */
async function doc(...args: string[]) {
  const options = { args: ["doc", ...args], cwd: ROOT, env: { NO_COLOR: "1", FORCE_COLOR: "" } };
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), options).output();
  const decoder = new TextDecoder();
  return { success, output: decoder.decode(stdout), errors: decoder.decode(stderr) };
}

describe("hub.ts and lib/", () => {
  it("describe everything that they export", async () => {
    const { output } = await doc("--json", "hub.ts", ...await filesIn("lib/", ".ts"));
    const modules: Record<string, { symbols: Documented[] }> = JSON.parse(output).nodes;
    assert(Object.keys(modules).length > 80);
    for (const [file, { symbols }] of Object.entries(modules)) {
      for (const symbol of symbols) {
        for (const { declarationKind, kind, jsDoc } of symbol.declarations ?? [symbol]) {
          if (declarationKind !== "export" || kind === "reference") continue;
          assert(jsDoc?.doc, `${file}: ${symbol.name} has no description.`);
        }
      }
    }
  });
});

describe("What the package exports", () => {
  it("is described whole, down to each field: deno doc --lint finds nothing", async () => {
    const { success, errors } = await doc("--lint", "main.ts", "lib/client/client.ts");
    assertEquals(success, true, errors);
  });
});
