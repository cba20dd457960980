/** What end-to-end encryption protects against a cheating server, and what it does not. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { ChatEvent, Event } from "../lib/protocol/events.ts";
import { Cipher, createKey } from "../public/cipher.js";
import { Connection } from "../public/connection.js";
import type { Told } from "../public/inbox.js";
import { CheatingServer, type Lie } from "./support/cheat.ts";
import { startServer } from "./support/server.ts";

/** Maximum wait for an expected event, in milliseconds. */
const PATIENCE_MS = 10_000;
const ROOM = "tea";

type Chat = Extract<Told, { type: "chat" }>;

/** A person with the key, who keeps all events. */
class Person {
  readonly told: Told[] = [];
  readonly connection: Connection;
  #wake = () => {};

  private constructor(connection: Connection) {
    this.connection = connection;
    connection.on("events", (events) => {
      this.told.push(...events);
      this.#wake();
    });
    connection.on("state", () => this.#wake());
    connection.on("outgoing", () => this.#wake());
  }

  static async join(base: string, username: string, key: string): Promise<Person> {
    const cipher = await Cipher.fromKey(key);
    const person = new Person(new Connection({ base, room: ROOM, username, cipher }));
    person.connection.open();
    await person.until(() => ["live", "refused"].includes(person.connection.state.state));
    return person;
  }

  async until(isSo: () => boolean): Promise<void> {
    const stop = AbortSignal.timeout(PATIENCE_MS);
    stop.onabort = () => this.#wake();
    while (!isSo()) {
      if (stop.aborted) throw new Error(`In vain: ${isSo}. ${JSON.stringify(this.told)}`);
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    stop.onabort = null;
  }

  /** The texts of messages and edits, with the result of opening each. */
  get texts(): [content: string, seal: string | undefined][] {
    return this.told.flatMap((event) =>
      ["chat", "dm", "message_updated"].includes(event.type)
        ? [[event.content, event.seal] as [string, string | undefined]]
        : []
    );
  }
}

/** Ada speaks to the honest server, Grace listens through the cheating one. */
async function meet(
  act: (stage: { ada: Person; grace: Person; cheat: CheatingServer; key: string }) => Promise<void>,
): Promise<void> {
  await using server = await startServer();
  await using cheat = new CheatingServer(server.ws);
  const key = createKey();
  const ada = await Person.join(server.url, "Ada", key);
  const grace = await Person.join(cheat.url, "Grace", key);
  try {
    await ada.until(() => ada.connection.roster.online === 2);
    await act({ ada, grace, cheat, key });
  } finally {
    await ada.connection.close();
    await grace.connection.close();
  }
}

const isChat = (event: Event): event is ChatEvent => event.type === "chat";

/** Lies about messages alone. */
function about(change: (event: ChatEvent) => Event | readonly Event[]): Lie {
  return (event) => isChat(event) ? change(event) : event;
}

describe("A cheating server in an encrypted room", () => {
  it("cannot move a text to another author, room or message (rename, swap)", async () => {
    await meet(async ({ ada, grace, cheat }) => {
      const said: ChatEvent[] = [];
      cheat.lie = about((event) => {
        said.push(event);
        return [];
      });
      for (const text of ["one", "two"]) ada.connection.send(text);
      await ada.until(() => ada.connection.outbox.isDone && ada.texts.length === 2);
      while (said.length < 2) await new Promise((resolve) => setTimeout(resolve));
      const [one, two] = said as [ChatEvent, ChatEvent];
      cheat.say({ ...one, username: "Mallory" });
      cheat.say({ ...two, content: one.content });
      const third = { ...one, id: "x3", seq: 3 };
      cheat.say({ ...third, ref: two.ref! });
      cheat.say({ ...third, type: "dm", to: "Grace", inbox_seq: 1 });
      cheat.say({ ...third, type: "message_updated", id: one.id, seq: 4 });
      await grace.until(() => grace.texts.length === 5);
      assertEquals(grace.texts, Array.from({ length: 5 }, () => ["", "broken"]));
    });
  });

  it("cannot move an edit to another message, nor undo an edit unnoticed", async () => {
    await meet(async ({ ada, grace, cheat }) => {
      for (const text of ["yes", "no"]) ada.connection.send(text);
      await grace.until(() => grace.texts.length === 2);
      const [yes, no] = grace.told.filter((event): event is Chat => event.type === "chat");
      cheat.lie = (event) => event.type === "message_updated" ? { ...event, id: no!.id } : event;
      ada.connection.edit(yes!.id, "certainly");
      await grace.until(() => grace.texts.length === 3);
      assertEquals(grace.texts[2], ["", "broken"]);
      cheat.lie = (event) => event;
      ada.connection.edit(yes!.id, "by all means");
      await grace.until(() => grace.texts.length === 4);
      ada.connection.edit(yes!.id, "never");
      await grace.until(() => grace.texts.length === 5);
      const edits = cheat.seen.filter((event) => event.type === "message_updated");
      cheat.say({ ...edits[1]!, seq: 6 });
      await grace.until(() => grace.texts.length === 6);
      assertEquals(grace.texts.slice(3), [
        ["by all means", "sound"],
        ["never", "sound"],
        ["", "replayed"],
      ]);
    });
  });

  it("cannot attach a reply to another message, nor detach it", async () => {
    await meet(async ({ ada, grace, cheat }) => {
      for (const text of ["Tea?", "War?"]) grace.connection.send(text);
      await ada.until(() => ada.texts.length === 2);
      const [tea, war] = ada.told.filter((event): event is Chat => event.type === "chat");
      const lies: Lie[] = [
        (event) => event,
        about((event) => ({ ...event, reply_to: war!.id })),
        about(({ reply_to: _, ...event }) => event),
      ];
      for (const [i, lie] of lies.entries()) {
        cheat.lie = lie;
        ada.connection.send("yes", { replyTo: tea!.id });
        await grace.until(() => grace.texts.length === 3 + i);
      }
      assertEquals(grace.texts.slice(2).map(([, seal]) => seal), ["sound", "broken", "broken"]);
      cheat.lie = (event) => event;
      ada.connection.edit(cheat.seen.filter(isChat)[2]!.id, "yes, please");
      await grace.until(() => grace.texts.length === 6);
      assertEquals(grace.texts[5], ["yes, please", "sound"]);
    });
  });

  it("cannot repeat a message unnoticed (replay)", async () => {
    await meet(async ({ ada, grace, cheat }) => {
      ada.connection.send("pay him");
      ada.connection.whisper("Grace", "the code is 7");
      await grace.until(() => grace.texts.length === 2);
      const chat = cheat.seen.find(isChat)!;
      const dm = cheat.seen.find((event) => event.type === "dm")!;
      cheat.say({ ...chat, id: "x2", seq: 2 });
      cheat.say({ ...dm, id: "y2", inbox_seq: 2 });
      cheat.say({ ...chat, id: "x3", seq: 3, timestamp: "2030-01-01T00:00:00.000Z" });
      await grace.until(() => grace.texts.length === 5);
      assertEquals(grace.texts.slice(2), Array.from({ length: 3 }, () => ["", "replayed"]));
    });
  });

  it("cannot pass off its own text as a sealed one (bare)", async () => {
    await meet(async ({ ada, grace, cheat }) => {
      cheat.lie = about((event) => ({ ...event, content: "I resign" }));
      ada.connection.send("good morning");
      await grace.until(() => grace.texts.length === 1);
      assertEquals(grace.texts, [["I resign", "bare"]]);
    });
  });

  it("cannot admit a person under another name, to get texts sealed for it", async () => {
    await using server = await startServer();
    await using cheat = new CheatingServer(server.ws);
    cheat.lie = (event) => event.type === "welcome" ? { ...event, username: "Boss" } : event;
    const ada = await Person.join(cheat.url, "Ada", createKey());
    ada.connection.send("the plan");
    const { state } = ada.connection;
    assert(state.state === "refused" && state.reason.includes("Boss"), JSON.stringify(state));
    assertEquals(cheat.seen.filter(isChat), []);
    assertEquals(ada.connection.outbox.items.map(({ status }) => status), ["waiting"]);
    await ada.connection.close();
  });

  it("is noticed when it drops a message: numbers have no holes (drop)", async () => {
    await meet(async ({ ada, grace, cheat }) => {
      cheat.lie = about((event) => event.seq === 1 ? [] : event);
      for (const text of ["one", "two"]) ada.connection.send(text);
      // Grace reconnects while the message is missing.
      await grace.until(() => grace.connection.state.state === "reconnecting");
      cheat.lie = (event) => event;
      grace.connection.retry();
      await grace.until(() => grace.texts.length === 2);
      assertEquals(grace.texts.map(([text]) => text), ["one", "two"]);
    });
  });

  it("can drop a message and renumber the rest unnoticed", async () => {
    await meet(async ({ ada, grace, cheat }) => {
      cheat.lie = about((event) => event.seq === 1 ? [] : { ...event, seq: event.seq - 1 });
      for (const text of ["one", "two"]) ada.connection.send(text);
      await grace.until(() => grace.texts.length === 1);
      assertEquals(grace.texts, [["two", "sound"]]);
    });
  });

  it("can repeat a message unnoticed to people who have not seen the first one", async () => {
    await meet(async ({ ada, grace, cheat, key }) => {
      ada.connection.send("yes");
      await grace.until(() => grace.texts.length === 1);
      const chat = cheat.seen.find(isChat)!;
      cheat.lie = about(() => []);
      const late = await Person.join(cheat.url, "Late", key);
      cheat.lie = (event) => event;
      cheat.say({ ...chat, id: "x2", seq: 2 });
      await late.until(() => late.texts.length === 1);
      assertEquals(late.texts, [["yes", "sound"]]);
      await late.connection.close();
    });
  });
});

describe("Texts sealed in the old format", () => {
  it("stay readable", async () => {
    await using server = await startServer();
    const key = createKey();
    const ada = await Person.join(server.url, "Ada", key);
    const old = new Connection({ base: server.url, room: ROOM, username: "Old" });
    old.open();
    old.send(await sealOld(key, "from last year", ["sealed.1.", ROOM, "Old", null, null]));
    old.send(await sealOld(key, "stolen", ["sealed.1.", ROOM, "Ada", null, null]));
    await ada.until(() => ada.texts.length === 2);
    assertEquals(ada.texts, [["from last year", "sound"], ["", "broken"]]);
    await old.close();
    await ada.connection.close();
  });

  /** Seals as clients of the first format did. */
  async function sealOld(key: string, text: string, label: unknown): Promise<string> {
    const base64 = key.replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const secret = await crypto.subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt"]);
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const utf8 = new TextEncoder();
    const additionalData = utf8.encode(JSON.stringify(label));
    const how = { name: "AES-GCM", iv, additionalData };
    const sealed = new Uint8Array(await crypto.subtle.encrypt(how, secret, utf8.encode(text)));
    const binary = String.fromCharCode(...iv, ...sealed);
    return "sealed.1." + btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  }
});
