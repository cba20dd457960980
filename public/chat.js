// @ts-check
// deno-lint-ignore-file no-console
/**
 * A chat client for the terminal, on the same connection as the page.
 *
 *     deno run -N http://localhost:8080/chat.js ROOM NAME
 *     deno run -N public/chat.js ROOM NAME [URL]
 *     deno run -N public/chat.js 'LINK' NAME
 *     HUBBUB_TOKEN=… deno run -N -E=HUBBUB_TOKEN http://localhost:8080/chat.js ROOM
 *
 * With the token of an account or a bot, leave out NAME.
 *
 * Sends each line of its input and prints each event. In a pipe, it ends when the server has stored
 * the whole input: with 0, or with 1 if the server refused something. `LINK` is a room's address as
 * the page copies it; quote it, since the link to an encrypted room contains `#`.
 *
 * @module
 */

import { Cipher, isKey, isSealed } from "./cipher.js";
import { HELP, readLine } from "./commands.js";
import { Connection } from "./connection.js";

/** @import { ConnectionState } from "./connection.js" */
/** @import { Told } from "./inbox.js" */

const USAGE = `Usage: deno run -N chat.js ROOM NAME [URL]
       deno run -N chat.js 'http://HOST/r/ROOM' NAME
With the token of an account or a bot in HUBBUB_TOKEN, without NAME:
       deno run -N -E=HUBBUB_TOKEN chat.js ROOM [URL]`;
const NO_SOCKETS = "WebSockets are blocked here, so this program uses plain HTTP.";
const DEFAULT_SERVER = "http://localhost:8080/";
/** How long the server may take to close the connection, in milliseconds. */
const GOODBYE_MS = 1000;

/**
 * The server, the room, and the name or the token of the person.
 *
 * @typedef {{ base: string, room: string, key: string, username: string, token?: string }} Call
 */

/**
 * Reads the arguments.
 *
 * @param {readonly string[]} args
 * @param {string} self the address of this file
 * @param {string} [token] replaces the name
 * @returns {Call | undefined} `undefined` for unusable arguments
 */
export function readCall([place = "", ...rest], self, token) {
  const [username = "", server, ...more] = token ? ["", ...rest] : rest;
  if (place === "" || (username === "" && !token) || more.length > 0) return undefined;
  const who = { username, ...(token && { token }) };
  const home = /^https?:/.test(self) ? new URL("./", self).href : DEFAULT_SERVER;
  if (/^https?:\/\//.test(place)) {
    if (!URL.canParse(place) || server !== undefined) return undefined;
    const { pathname, searchParams, hash } = new URL(place);
    const inPath = /\/r\/([^/]+)\/?$/.exec(pathname)?.[1];
    const room = inPath === undefined ? searchParams.get("room") : decodeURIComponent(inPath);
    const key = new URLSearchParams(hash.slice(1)).get("key") ?? "";
    return room ? { base: serverOf(place), room, key, ...who } : undefined;
  }
  const address = server ?? home;
  if (!/^https?:\/\//.test(address) || !URL.canParse(address)) return undefined;
  return { base: serverOf(address), room: place, key: "", ...who };
}

/** The server's base address, path included, from the address of one of its pages. @param {string} address */
function serverOf(address) {
  const { origin, pathname } = new URL(address);
  return origin + pathname.replace(/(\/r\/[^/]+)?\/?$/, "/");
}

/**
 * Makes a text safe to print: its author could otherwise move the cursor, or forge a line of another
 * person.
 *
 * @param {string} text
 */
export function printable(text) {
  return text.replace(/\r\n|[\n\v\f\r\x85\u2028\u2029]/g, "\n  ").replace(
    /(?![\n\t])\p{Cc}|\p{Bidi_Control}/gu,
    "",
  );
}

/**
 * The line to print for an event, or none.
 *
 * @param {Told} event
 * @returns {string | undefined}
 */
export function lineOf(event) {
  switch (event.type) {
    case "chat":
      return event.deleted ? undefined : `${event.username}${remarkOn(event)}: ${textOf(event)}`;
    case "message_updated":
      return `${event.username}${remarkOn(event)}, corrected: ${textOf(event)}`;
    case "dm":
      return `${event.username} (to ${event.to})${remarkOn(event)}: ${textOf(event)}`;
    case "user_joined":
    case "user_left":
      return event.content;
    case "error":
      return `Error: ${event.content}`;
    default:
      return undefined;
  }
}

/** @param {Told} event */
function textOf({ content, seal }) {
  if (seal === "broken" || seal === "replayed") {
    return "[cannot be read: another key, or changed on its way]";
  }
  if (!seal && isSealed(content)) return "[encrypted: start with the whole link to read it]";
  return content;
}

/** @param {Told} event */
function remarkOn({ seal }) {
  return seal === "bare" ? " (not encrypted)" : "";
}

/**
 * Chats until the input ends, the server refuses, or the person presses Ctrl-C.
 *
 * @param {Call} call
 * @returns {Promise<number>} the exit code
 */
async function run({ base, room, key, username, token }) {
  if (key && !isKey(key)) return fail("The key in this link is damaged. Ask for the whole link.");
  const isTerminal = Deno.stdin.isTerminal();
  const connection = new Connection({
    base,
    room,
    username,
    ...(token && { token }),
    ...(key && { cipher: await Cipher.fromKey(key) }),
  });
  const own = new Set();
  let wasLive = false;
  let hasSaidWay = false;
  let hasFailed = false;
  /** @type {PromiseWithResolvers<number>} */
  const end = Promise.withResolvers();
  let hasRead = false;
  /** @type {PromiseWithResolvers<void>} */
  const arrived = Promise.withResolvers();

  const refuse = (/** @type {string} */ why) => {
    hasFailed = true;
    console.error(printable(`Not sent: ${why}`));
  };
  const finish = () => {
    if (hasRead && connection.outbox.isDone) end.resolve(hasFailed ? 1 : 0);
  };

  connection.on("state", (/** @type {ConnectionState} */ state) => {
    if (state.state === "live") {
      wasLive = true;
      arrived.resolve();
      print("Connected to WebSocket server. Type messages to send:");
      if (state.via === "stream" && !hasSaidWay) print(NO_SOCKETS);
      hasSaidWay ||= state.via === "stream";
    } else if (state.state === "refused") {
      end.resolve(fail(state.reason));
    } else if (state.state === "reconnecting" && !wasLive && !isTerminal) {
      end.resolve(
        fail(
          state.reason || `Cannot connect to ${base}. Check the address, and that the server runs.`,
        ),
      );
    } else if (state.state === "reconnecting" && state.attempt === 1) {
      print("Disconnected, reconnecting...");
    }
  });
  connection.on("outgoing", ({ status, reason, content, ack, ref }) => {
    if (ack) own.add(ack.id);
    if (status === "failed") {
      connection.outbox.discard(ref);
      refuse(`${reason} (${content})`);
    }
    finish();
  });
  connection.on("gap", () => print("Some messages may be missing here."));
  connection.on("events", (events) => {
    for (const event of events) {
      if (event.type === "welcome") print(`Online: ${connection.roster.names.join(", ")}`);
      // The screen already shows what was typed here.
      if ("id" in event && event.type !== "message_updated" && own.delete(event.id)) continue;
      const line = lineOf(event);
      if (line !== undefined) print(line);
    }
  });

  const stop = () => {
    console.log("Shutting down client...");
    end.resolve(0);
  };
  Deno.addSignalListener("SIGINT", stop);
  connection.open();
  // `/msg` needs the roster, which arrives with the welcome.
  arrived.promise.then(() => readInput((text) => onLine(connection, text, isTerminal, refuse)))
    .then(() => {
      hasRead = true;
      finish();
    });

  const code = await end.promise;
  Deno.removeSignalListener("SIGINT", stop);
  const timer = setTimeout(() => Deno.exit(code), GOODBYE_MS);
  await connection.close(1000);
  clearTimeout(timer);
  return code;
}

/**
 * @param {Connection} connection
 * @param {string} text
 * @param {boolean} isTerminal
 * @param {(sentence: string) => void} onRefused reports why a private message cannot be sent
 */
function onLine(connection, text, isTerminal, onRefused) {
  if (text.trim() === "") return;
  const line = readLine(text, connection.roster.names);
  switch (line.type) {
    case "say":
      return void connection.send(line.text);
    case "whisper":
      return void connection.whisper(line.to, line.text);
    case "nick":
      return print("To change your name, start this program again with the new one.");
    case "help":
      return HELP.filter(([command]) => !command.startsWith("/nick"))
        .forEach(([command, what]) => print(`${command.padEnd(16)} ${what}`));
    case "wrong":
      if (isTerminal) return print(line.why);
      // A pipe has no reader for hints: the line is sent as it is, unless it is private.
      if (!line.isPrivate) return void connection.send(text);
      return onRefused(`${line.why} (${text})`);
  }
}

/** @param {(line: string) => void} onLine */
async function readInput(onLine) {
  let rest = "";
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop() ?? "";
    lines.forEach(onLine);
  }
  if (rest !== "") onLine(rest);
}

/** @param {string} text */
function print(text) {
  console.log(printable(text));
}

/** @param {string} sentence */
function fail(sentence) {
  console.error(printable(sentence));
  return 1;
}

/** The token in the environment, if permitted; asks for no permission. */
function readToken() {
  const { state } = Deno.permissions.querySync({ name: "env", variable: "HUBBUB_TOKEN" });
  return state === "granted" ? Deno.env.get("HUBBUB_TOKEN") : undefined;
}

if (import.meta.main) {
  const call = readCall(Deno.args, import.meta.url, readToken());
  Deno.exit(call ? await run(call) : fail(USAGE));
}
