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
 * The token of an account, or of one of its bots, says who it is: then no NAME is given.
 *
 * Lines go out, lines come in. In a pipe it ends when its input ends and the server has stored it all:
 * with 0, or with 1 if something was not taken. `LINK` is a room's address as the page copies it;
 * that of an encrypted room has its key, and needs the quotes.
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
const NO_SOCKETS = "WebSockets do not get through here, so this program uses plain HTTP.";
const DEFAULT_SERVER = "http://localhost:8080/";
/** How long the server may take to say goodbye, in milliseconds. */
const GOODBYE_MS = 1000;

/**
 * Where to go, and who goes there.
 *
 * @typedef {{ base: string, room: string, key: string, username: string, token?: string }} Call
 */

/**
 * Reads what was asked for.
 *
 * @param {readonly string[]} args
 * @param {string} self where this program was loaded from
 * @param {string} [token] says who it is, in place of a name
 * @returns {Call | undefined} nothing if it makes no sense
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

/** The server's own address, which may have a path, of an address at it. @param {string} address */
function serverOf(address) {
  const { origin, pathname } = new URL(address);
  return origin + pathname.replace(/(\/r\/[^/]+)?\/?$/, "/");
}

/**
 * Makes a text safe to print: whoever wrote it could otherwise move the cursor, or write a line in
 * another's name.
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
 * One line for what the server told, or none.
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
 * Chats until the input ends or somebody ends it.
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
      end.resolve(fail(state.reason || `Cannot connect to ${base}`));
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
      // What was typed here stands on the screen already.
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
  // Only then it is known who is there, and so whom a line is for.
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
 * @param {(sentence: string) => void} onRefused a private message cannot go out, for this reason
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
      return print("To change your name, start again with another one.");
    case "help":
      return HELP.filter(([command]) => !command.startsWith("/nick"))
        .forEach(([command, what]) => print(`${command.padEnd(16)} ${what}`));
    case "wrong":
      if (isTerminal) return print(line.why);
      // A pipe has nobody to tell: all is said as it is, but what is private must not be.
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

/** The token in the environment, if this program may read it: without leave, nobody is asked. */
function readToken() {
  const { state } = Deno.permissions.querySync({ name: "env", variable: "HUBBUB_TOKEN" });
  return state === "granted" ? Deno.env.get("HUBBUB_TOKEN") : undefined;
}

if (import.meta.main) {
  const call = readCall(Deno.args, import.meta.url, readToken());
  Deno.exit(call ? await run(call) : fail(USAGE));
}
