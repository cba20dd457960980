/** The commands and units of docs/deploy.md, and the command of the Dockerfile. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { AckEvent } from "../lib/protocol/events.ts";
import { blocksIn, readPage } from "./support/docs.ts";
import { type Folder, makeFolder } from "./support/folder.ts";
import { ServerProcess } from "./support/process.ts";
import { change } from "./support/proxies.ts";
import { itWith } from "./support/tools.ts";
import { V1Client } from "./support/v1_client.ts";

const ROOT = new URL("..", import.meta.url).pathname;

const page = await readPage("deploy.md");
const [unit, lines] = blocksIn(page, "ini") as [string, string];
/** The template, made of the unit as the page says. */
const template = unit.replace(/^StateDirectory.*\n/gm, "").replace(/^ExecStart=.*\n/m, lines);
const dockerfile = await Deno.readTextFile(`${ROOT}Dockerfile`);

/** The flags of a command that starts the server. */
function flagsIn(text: string): string[] {
  const [, flags] = /deno run ((?:--\S+ )+)main\.ts$/m.exec(text)!;
  return flags!.trim().split(" ");
}

/** The block of a page that has a line. */
function blockWith(line: string): string {
  return blocksIn(page, "sh").find((block) => block.includes(line))!;
}

/** Runs a program, which must succeed, and returns what it wrote to standard error. */
async function succeeds(program: string, ...args: string[]): Promise<string> {
  const output = await new Deno.Command(program, { args }).output();
  const stderr = new TextDecoder().decode(output.stderr);
  assert(output.success, stderr);
  return stderr;
}

describe("The permissions of docs/deploy.md", () => {
  const command = JSON.parse(/^CMD (.*)$/m.exec(dockerfile)![1]!) as string[];
  const STARTS: [where: string, flags: string[], folder: string][] = [
    ["in the command", flagsIn(blockWith("--allow-write")), "/var/lib/hubbub"],
    ["in the unit", flagsIn(unit), "/var/lib/hubbub"],
    ["in the Dockerfile", command.slice(1, -1), "/data"],
  ];
  for (const [where, flags, dataFolder] of STARTS) {
    it(`${where}, are enough to store, checkpoint, serve and stop`, async () => {
      await using folder = await makeFolder();
      await using server = await ServerProcess.start({
        cwd: ROOT,
        env: { DATABASE_URL: `sqlite:${folder.path}/chat.db` },
        permissions: flags.map((flag) => flag.replace(dataFolder, folder.path)),
      });
      const answer = await fetch(server.url, { headers: { accept: "text/html" } });
      assertStringIncludes(await answer.text(), "<!DOCTYPE html>");
      const ann = await V1Client.connect(`${server.ws}/ws/r?username=ann`);
      const ack = await ann.ask({ type: "chat", content: "hello" }) as AckEvent;
      assertEquals((await ann.ask({ type: "delete", id: ack.id })).type, "ack");
      // The thread that makes the checkpoints erases the text from the log.
      while ((await Deno.stat(`${folder.path}/chat.db-wal`)).size > 0) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      await ann.close();
      assertEquals((await server.stop()).code, 0);
      assertEquals(server.stderr, "");
      assertEquals(server.log.filter(({ level }) => level !== "info"), []);
    });
  }

  it("in the template, are enough to share a port", async () => {
    await using server = await ServerProcess.start({
      cwd: ROOT,
      env: { REUSE_PORT: Deno.build.os === "linux" ? "1" : "0" },
      permissions: flagsIn(template),
    });
    await using ann = await V1Client.join(server.ws, "r", "ann");
    assertEquals((await ann.ask({ type: "chat", content: "hello" })).type, "ack");
    await ann.close();
    assertEquals(server.stderr, "");
  });
});

const itSystemd = await itWith("the test of the units", "systemd-analyze");

describe("The units of docs/deploy.md", () => {
  itSystemd("are accepted by systemd", async () => {
    const files = { "hubbub.service": unit, "hubbub@.service": template };
    for (const [name, text] of Object.entries(files)) {
      await using folder = await makeFolder();
      const file = `${folder.path}/${name}`;
      await Deno.writeTextFile(file, change(text, [["/usr/local/bin/deno", Deno.execPath()]]));
      // What it ignores it complains of, and succeeds.
      assertEquals(await succeeds("systemd-analyze", "verify", file), "");
    }
  });
});

describe("The backup and the restore of docs/deploy.md", () => {
  /** Runs a block of the page as whoever runs the test, with the folders of the test. */
  const run = (line: string, folder: Folder, changes: [string, string][]) =>
    succeeds(
      "bash",
      "-ec",
      change(blockWith(line), [
        ["/var/backups/hubbub", `${folder.path}/backups`],
        ["/var/lib/hubbub", folder.path],
        ...changes,
      ]),
    );

  it("bring back what was there at the backup", async () => {
    await using folder = await makeFolder();
    const env = { DATABASE_URL: `sqlite:${folder.path}/chat.db` };
    const say = async ({ ws }: ServerProcess, content: string) => {
      await using ann = await V1Client.join(ws, "r", "ann");
      assertEquals((await ann.ask({ type: "chat", content })).type, "ack");
      await ann.close();
    };
    {
      await using server = await ServerProcess.start({ env });
      await say(server, "before the backup");
      await run("runuser -u hubbub", folder, [
        ["install -d -o hubbub", "install -d"],
        ["cd /opt/hubbub", `cd ${ROOT}`],
        ["runuser -u hubbub -- env DENO_DIR=/var/cache/hubbub", "env -u INIT_CWD"],
        ["deno task", `${Deno.execPath()} task`],
      ]);
      await say(server, "after the backup");
      await server.stop("SIGKILL");
    }
    const [copy] = [...Deno.readDirSync(`${folder.path}/backups`)].map(({ name }) => name);
    await run("rm -f chat.db chat.db-wal", folder, [
      ["systemctl stop hubbub", ""],
      ["systemctl start hubbub", ""],
      ["install -o hubbub", "install"],
      ["2026-11-26.db", copy!],
    ]);
    await using server = await ServerProcess.start({ env });
    const answer = await fetch(`${server.url}/api/rooms/r/messages`);
    const { messages } = await answer.json() as { messages: { content: string }[] };
    assertEquals(messages.map(({ content }) => content), ["before the backup"]);
  });
});
