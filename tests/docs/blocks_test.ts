/** The blocks of the pages that are marked to run: they do what a reader sees them do. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { blocksIn, readPages } from "../support/docs.ts";
import { makeFolder } from "../support/folder.ts";
import { startServer } from "../support/server.ts";
import { itWith } from "../support/tools.ts";

/** The limits that people have, which the tests' own servers lack. */
const LIMITS = {
  MESSAGE_RATE: "",
  MESSAGE_RATE_PER_ADDRESS: "",
  JOIN_RATE_PER_ADDRESS: "",
  AUTH_RATE_PER_ADDRESS: "",
  MAX_CONNECTIONS_PER_ADDRESS: "",
};

/**
 * How each shell takes lines that a person pastes: with the exclamation marks of bash, and in zsh
 * without comments.
 */
const SHELLS = {
  bash: ["--norc", "-H", "-s"],
  zsh: ["-f", "-i"],
};

/**
 * Pastes the blocks of a page into a shell, one after the other, beside a new server, in an empty
 * folder.
 */
async function paste(shell: keyof typeof SHELLS, blocks: readonly string[]) {
  await using server = await startServer(LIMITS);
  await using folder = await makeFolder();
  const lines = blocks.join("").replaceAll("localhost:8080", `127.0.0.1:${server.port}`);
  const child = new Deno.Command(shell, {
    args: SHELLS[shell],
    cwd: folder.path,
    env: { HOME: folder.path, HISTFILE: "", NO_COLOR: "1", FORCE_COLOR: "" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(`set -e\n${lines}\nexit\n`));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, output: decoder.decode(stdout), errors: decoder.decode(stderr) };
}

const all = await readPages();
const pages = all.map(({ path, text }) => ({
  path,
  blocks: blocksIn(text, "sh test"),
}))
  .filter(({ blocks }) => blocks.length > 0);

describe("The blocks for a shell", () => {
  it("have no comments: zsh takes them for words where people paste them", () => {
    const faults: string[] = [];
    for (const { path, text } of all) {
      for (const block of [...blocksIn(text, "sh"), ...blocksIn(text, "sh test")]) {
        const [comment] = /^.*(?:^|\s)#\s.*$/m.exec(block) ?? [];
        if (comment !== undefined) faults.push(`${path}: ${comment}`);
      }
    }
    assertEquals(faults, []);
  });
});

for (const shell of ["bash", "zsh"] as const) {
  const itWithShell = await itWith("docs/", shell, "curl");

  describe(`The blocks to run, in ${shell}`, () => {
    for (const { path, blocks } of pages) {
      itWithShell(`of ${path} succeed, and no answer is an error`, async () => {
        const { code, output, errors } = await paste(shell, blocks);
        assertEquals(code, 0, output + errors);
        assert(!/"error"|^\S*(zsh|bash): /m.test(output + errors), output + errors);
      });
    }
  });
}
