/** The worked examples of docs/extending.md, applied to a copy of the code. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { blocksIn, readPage } from "./support/docs.ts";
import { makeFolder } from "./support/folder.ts";
import { startServer } from "./support/server.ts";
import { inSeconds, SIGN_IN_SECRET, siteToken } from "./support/site_token.ts";

const ROOT = new URL("..", import.meta.url);

const page = await readPage("extending.md");

/** A change to one file: a whole new file, or lines in place of others. */
interface Step {
  file: string;
  language: "diff" | "ts";
  block: string;
}

/** The blocks of a part of the page, each for the file that was named last before it. */
function readSteps(): Step[] {
  const steps: Step[] = [];
  let file = "";
  const parts = page.slice(page.indexOf("## A command")).split(/^```(\w+)\n([^]*?)^```$/m);
  for (let i = 0; i + 2 < parts.length; i += 3) {
    file = parts[i]!.match(/`((?:lib|tests|public)\/[\w/]+\.(?:ts|js)|main\.ts)`/g)?.at(-1)
      ?.replaceAll("`", "") ?? file;
    steps.push({ file, language: parts[i + 1] as Step["language"], block: parts[i + 2]! });
  }
  return steps;
}

/** A text in which the lines of a diff that it has are those that it should have. */
function applyDiff(text: string, diff: string, file: string): string {
  const lines = diff.split("\n").slice(0, -1);
  const linesWith = (signs: string) =>
    lines.filter((line) => signs.includes(line[0] ?? " ")).map((line) => line.slice(1) + "\n");
  const before = linesWith(" -").join("");
  const at = text.indexOf(before);
  assert(at >= 0 && text.indexOf(before, at + 1) < 0, `${file} has not once:\n${before}`);
  return text.slice(0, at) + linesWith(" +").join("") + text.slice(at + before.length);
}

async function copy(from: URL, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copy(new URL(`${name}/`, from), `${to}/${name}`);
    else await Deno.copyFile(new URL(name, from), `${to}/${name}`);
  }
}

/** Runs Deno in a folder. Returns what it prints. */
async function run(cwd: string, { env = {} }, ...args: string[]): Promise<string> {
  const options = { args, cwd, env: { NO_COLOR: "1", ...env }, stdin: "null" } as const;
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), options).output();
  const printed = new TextDecoder().decode(stdout);
  assert(success, printed + new TextDecoder().decode(stderr));
  return printed;
}

describe("docs/extending.md", () => {
  it("has a command, a stored event and an engine that fit the code, and pass their tests", async () => {
    await using folder = await makeFolder();
    for (const name of ["lib", "public", "tests"]) {
      await copy(new URL(`${name}/`, ROOT), `${folder.path}/${name}`);
    }
    for (const name of ["main.ts", "hub.ts", "deno.json", "deno.lock"]) {
      await Deno.copyFile(new URL(name, ROOT), `${folder.path}/${name}`);
    }
    const tests: string[] = [];
    for (const { file, language, block } of readSteps()) {
      const path = `${folder.path}/${file}`;
      if (language === "ts") await Deno.writeTextFile(path, block, { createNew: true });
      else await Deno.writeTextFile(path, applyDiff(await Deno.readTextFile(path), block, file));
      if (file.startsWith("tests/")) tests.push(file);
    }
    assertEquals(tests, ["tests/announce_test.ts", "tests/mask_test.ts", "tests/journal_test.ts"]);
    await run(folder.path, {}, "check", "-q", "--no-lock", "public/connection.js");
    await run(folder.path, {}, "task", "test", ...tests);
  });

  it("signs the users of a site in, and again when their token ends", async () => {
    await using folder = await makeFolder();
    await using server = await startServer({ SIGN_IN_SECRET, GUESTS: "off" });
    const [signing, chatting] = blocksIn(page, "js");
    const print = 'console.log(chatToken({ id: "42", name: "Ada" }));';
    await Deno.writeTextFile(`${folder.path}/sign.js`, `${signing}\n${print}`);
    const env = { SIGN_IN_SECRET, NO_COLOR: "1" };
    const longer = await run(folder.path, { env }, "run", "--allow-env", "sign.js");
    const tokens = [siteToken("42", "Ada", { exp: inSeconds(2) }), longer.trim()];
    const site = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
      return new Response(tokens.shift() ?? "no more");
    });
    const program = chatting!.replaceAll("http://localhost:8080", server.url)
      .replace("https://site.example", `http://127.0.0.1:${site.addr.port}`);
    await Deno.writeTextFile(`${folder.path}/chat.js`, program);
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--no-lock", "--no-config", "chat.js"],
      cwd: folder.path,
      env,
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    let printed = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      printed += text;
      if (printed.split("live Ada").length === 3) child.kill();
    }
    await child.status;
    await site.shutdown();
    assertEquals(printed.trim().split("\n"), [
      ...["connecting ", "live Ada", "refused Ada", "connecting Ada", "live Ada"],
    ]);
    assertEquals(tokens, []);
  });
});
