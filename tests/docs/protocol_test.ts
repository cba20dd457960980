/** The examples of docs/protocol.md, run against the server, and its tables beside the code. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ERROR_STATUS } from "../../lib/http/app.ts";
import { CLOSE } from "../../lib/protocol/codes.ts";
import type { Command } from "../../lib/protocol/commands.ts";
import {
  type Event,
  type EventBase,
  IS_FOR_PLAIN_CLIENTS,
  type WelcomeEvent,
} from "../../lib/protocol/events.ts";
import { codesIn, readFile, readPage, tableIn } from "../support/docs.ts";
import { startServer } from "../support/server.ts";
import { V1Client } from "../support/v1_client.ts";

const text = await readPage("protocol.md");

interface Example {
  heading: string;
  lines: string[];
}

/** The blocks marked `chat`, each under the heading it stands below. */
function readExamples(): Example[] {
  const examples: Example[] = [];
  let heading = "";
  let open: Example | undefined;
  for (const line of text.split("\n")) {
    if (line.startsWith("## ")) heading = line.slice(3);
    else if (line === "```chat") examples.push(open = { heading, lines: [] });
    else if (line === "```") open = undefined;
    else open?.lines.push(line);
  }
  return examples;
}

/** Checks an event against an example: `…` stands for any text, `$name` for the same one each time. */
function assertLike(actual: unknown, example: unknown, names: Map<string, string>): void {
  if (typeof example === "string" && example.startsWith("$")) {
    if (!names.has(example)) names.set(example, actual as string);
    assertEquals(actual, names.get(example));
  } else if (example === "…") {
    assert(typeof actual === "string" && actual.length > 0, `${actual} is no text.`);
  } else if (typeof example === "object" && example !== null) {
    assertEquals(Object.keys(actual as object), Object.keys(example));
    for (const [key, value] of Object.entries(example)) {
      assertLike((actual as Record<string, unknown>)[key], value, names);
    }
  } else {
    assertEquals(actual, example);
  }
}

async function run(lines: string[]): Promise<string[]> {
  await using server = await startServer();
  const clients = new Map<string, V1Client>();
  const sessions = new Map<string, { session: string; epoch: string }>();
  const names = new Map<string, string>();
  const types: string[] = [];
  for (const line of lines) {
    const [, who, what, json = ""] = /^(\w+) (joins|leaves|comes back after|[<>])(?: (.*))?$/.exec(
      line,
    )!;
    const client = clients.get(who!);
    if (what === "joins" || what === "comes back after") {
      const query = new URLSearchParams({ username: who! });
      if (what !== "joins") {
        const resume = { ...sessions.get(who!), after: json, inbox: "0" };
        for (const [name, value] of Object.entries(resume)) query.set(name, value);
      }
      const url = `${server.ws}/ws/general?${query}`;
      const joined = await V1Client.connect(url);
      clients.set(who!, joined);
      const { session, epoch } = await joined.peek("welcome");
      sessions.set(who!, { session, epoch });
    } else if (what === "leaves") {
      await client!.close();
      clients.delete(who!);
      for (const other of clients.values()) {
        await other.peek("user_left", ({ username }) => username === who);
      }
    } else if (what === ">") {
      let command = json;
      for (const [name, value] of names) command = command.replaceAll(name, value);
      client!.send(JSON.parse(command));
      types.push(JSON.parse(json).type);
    } else {
      const example: Event = JSON.parse(json);
      // What an example is not about may come in between: two events of one type differ in somebody.
      const event = await client!.next((event) =>
        event.type === example.type &&
        event.username === example.username && isAbout(event, example)
      );
      assertLike(event, example, names);
      types.push(example.type);
    }
  }
  for (const client of clients.values()) await client.close();
  return types;
}

/** Whether an event is the one that an example shows, and not an earlier one of the same kind. */
function isAbout(event: Event, example: Event): boolean {
  if ("online" in example && "online" in event && example.online !== event.online) return false;
  return !("ref" in example) || ("ref" in event && event.ref === example.ref);
}

describe("docs/protocol.md", () => {
  const shown = new Set<string>();

  for (const [i, { heading, lines }] of readExamples().entries()) {
    it(`is right in example ${i + 1}: ${heading}`, async () => {
      for (const type of await run(lines)) shown.add(type);
    });
  }

  it("shows every command and every event", () => {
    // A client meets this one only where a database takes another's place.
    const events = Object.keys(IS_FOR_PLAIN_CLIENTS).filter((type) => type !== "epoch");
    const all = new Set([...Object.keys(FIELDS), ...events]);
    assertEquals([...shown].filter((type) => type !== "fly").sort(), [...all].sort());
  });
});

/** The fields of a command besides those of all. */
type FieldsOf<T extends Command["type"]> = Exclude<
  keyof Extract<Command, { type: T }>,
  "type" | "ref"
>;

/** The fields of every command: the compiler misses one that is not here. */
const FIELDS: { [T in Command["type"]]: Record<FieldsOf<T>, true> } = {
  chat: { content: true, reply_to: true },
  edit: { id: true, content: true },
  delete: { id: true },
  dm: { to: true, content: true },
  typing: { active: true },
  history: { before: true, after: true, limit: true },
  ping: {},
  kick: { username: true, id: true, reason: true, ban: true },
  room: { private: true, members: true, moderators: true, owner: true, unban: true },
};

/** The fields of `welcome` besides those of all events. */
const WELCOME: Record<Exclude<keyof WelcomeEvent, keyof EventBase | "type">, true> = {
  session: true,
  role: true,
  private: true,
  epoch: true,
  seq: true,
  inbox_seq: true,
  recovered: true,
  users: true,
  online: true,
  typing: true,
  limits: true,
};

/** Where the number of each row of the table of limits stands in the code. */
const LIMITS: Readonly<Record<string, readonly [file: string, declaration: RegExp]>> = {
  "a user's name": ["lib/names.ts", /username: (\d+),/],
  "a room's name": ["lib/names.ts", /room: (\d+),/],
  "`ref`, `id`, `reply_to`": ["lib/protocol/commands.ts", /MAX_REF_LENGTH = (\d+)/],
  "`reason` of a `kick`": ["lib/protocol/commands.ts", /MAX_REASON_LENGTH = (\d+)/],
  "`members`, `moderators`, `unban` of a `room`": [
    "lib/protocol/commands.ts",
    /MAX_LISTED_NAMES = (\d+)/,
  ],
  "`limit` of `history`": ["lib/protocol/commands.ts", /MAX_PAGE = (\d+)/],
  "a page without a `limit`": ["lib/protocol/commands.ts", /DEFAULT_PAGE = (\d+)/],
  "events that a client may have missed": ["lib/room/welcome.ts", /MAX_MISSED = ([\d_]+)/],
  "users in `welcome`, and in a plain list of users": ["lib/room/roster.ts", /CROWD = (\d+)/],
  "names in each list of a crowd's `presence`": [
    "lib/room/notices.ts",
    /MAX_PRESENCE_NAMES = (\d+)/,
  ],
  "rooms of one owner": ["lib/room/permissions.ts", /MAX_OWNED_ROOMS = (\d+)/],
  "bans of a room": ["lib/room/permissions.ts", /MAX_BANS = (\d+)/],
  "tokens of an account": ["lib/people/accounts.ts", /MAX_BOT_TOKENS = (\d+)/],
  "a password": ["lib/people/passwords.ts", /MAX_PASSWORD_LENGTH = (\d+)/],
  "the body of a request": ["lib/http/bodies.ts", /MAX_BODY_BYTES = (\d+) \* 1024/],
  "the address of a request": ["lib/http/app.ts", /MAX_ADDRESS_LENGTH = (\d+) \* 1024/],
};

describe("The tables of docs/protocol.md", () => {
  it("have every command with its fields, and no other", () => {
    const rows = tableIn(text, "command")
      .map(([command, fields]) => [codesIn(command!)[0]!, codesIn(fields!).sort()]);
    const known = Object.entries(FIELDS).map((
      [name, fields],
    ) => [name, Object.keys(fields).sort()]);
    assertEquals(Object.fromEntries(rows), Object.fromEntries(known));
  });

  it("have every event, and whether plain clients receive it", () => {
    const rows = tableIn(text, "event").map((
      [event, plain],
    ) => [codesIn(event!)[0], plain === "yes"]);
    assertEquals(Object.fromEntries(rows), IS_FOR_PLAIN_CLIENTS);
    const plain = tableIn(text, "type").map(([type]) => codesIn(type!)[0]);
    const known = Object.entries(IS_FOR_PLAIN_CLIENTS).filter(([, isForPlain]) => isForPlain);
    assertEquals(plain.sort(), known.map(([type]) => type).sort());
  });

  it("have every field of welcome", () => {
    const fields = tableIn(text, "field of `welcome`").flatMap(([field]) => codesIn(field!));
    assertEquals(fields.sort(), Object.keys(WELCOME).sort());
  });

  it("have every error code with its status", () => {
    const rows = tableIn(text, "code").map(([code, status]) => [codesIn(code!)[0], Number(status)]);
    assertEquals(Object.fromEntries(rows), ERROR_STATUS);
  });

  it("have every close code, and whether a client comes back", () => {
    const rows = tableIn(text.slice(text.indexOf("## Close codes")), "code")
      .map(([code, , answer]) => [Number(code), answer!.startsWith("yes")] as const);
    const known = new Map<number, boolean>();
    for (const { code, reconnect } of Object.values(CLOSE)) known.set(code, reconnect);
    // The runtime gives this one.
    known.set(1001, true);
    assertEquals(new Map(rows), known);
  });

  it("have the limits that the code has", async () => {
    const rows = tableIn(text, "of");
    assertEquals(rows.map(([what]) => what), Object.keys(LIMITS));
    for (const [what, most] of rows) {
      const [file, declaration] = LIMITS[what!]!;
      const [, number] = declaration.exec(await readFile(file)) ?? [];
      assert(number, `${file} has no ${declaration}.`);
      assertEquals(parseInt(most!.replace(",", "")), Number(number.replace("_", "")), what);
    }
  });
});
