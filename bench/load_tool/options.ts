/**
 * The command line of `deno task load`.
 *
 * @module
 */

import { lookup } from "node:dns/promises";
import { BlockList, isIP } from "node:net";
import { parseArgs } from "node:util";

/** The settings of a load. */
export interface LoadOptions {
  /** The address of the server, which ends with a slash: `ws:` or `wss:`. */
  readonly base: URL;
  readonly clients: number;
  /** Messages a second, of all clients together. */
  readonly rate: number;
  /** Client `i` is in room `i % rooms`. */
  readonly rooms: number;
  readonly seconds: number;
  /** Bytes of a message's text. */
  readonly size: number;
  /** The file for the chart. */
  readonly chart: string | undefined;
}

/** The command line is wrong. The message says what to write. */
export class UsageError extends Error {}

/** Each number: its default, and its bounds. */
const NUMBERS = {
  clients: { byDefault: 100, max: 2000, what: "guests, all from this machine" },
  rate: { byDefault: 50, max: 5000, what: "messages a second, from all guests together" },
  rooms: { byDefault: 10, max: 2000, what: "rooms; the guests are spread over them" },
  seconds: { byDefault: 20, max: 300, what: "seconds of sending" },
  size: { byDefault: 64, max: 16_384, what: "bytes of a message's text" },
} as const;

type NumberName = keyof typeof NUMBERS;

const names = Object.keys(NUMBERS) as NumberName[];

/** Settings that turn off the limits for one address. */
export const SETTINGS = "JOIN_RATE_PER_ADDRESS=0 MAX_CONNECTIONS_PER_ADDRESS=0 MESSAGE_RATE=0 " +
  "MESSAGE_RATE_PER_ADDRESS=0";

/** What `--help` prints. */
export const HELP = `Measures your Hubbub server under load.

  deno task load ws://localhost:8080 --clients=100 --rate=50 --rooms=10 --seconds=20

${names.map(describe).join("\n")}
  --chart=FILE    draws throughput and latency over time into an SVG file
  --yes           the server is on another machine, and you may load it

The address is ws://, wss://, http:// or https://, with a path if the server has one.
A server limits what one address may do. For a load, start it with:

  ${SETTINGS}

Ctrl-C ends early and prints the table. The exit status is 1 if nothing was stored, and 2 if a
message was lost or doubled.`;

function describe(name: NumberName): string {
  const { what, byDefault, max } = NUMBERS[name];
  return `  --${name}=N`.padEnd(18) + `${what}: ${byDefault}, at most ${max}`;
}

/**
 * Reads the command line.
 *
 * @returns `undefined` if it asks for help
 * @throws {UsageError} if an argument is wrong, or the server is on another machine without `--yes`
 */
export async function readLoadOptions(args: readonly string[]): Promise<LoadOptions | undefined> {
  const { values, positionals } = parse(args);
  if (values.help) return undefined;
  const [address, ...more] = positionals;
  if (address === undefined || more.length > 0) {
    throw new UsageError(
      "Name one server, such as ws://localhost:8080. Write options as --clients=100.",
    );
  }
  const numbers = Object.fromEntries(
    names.map((name) => [name, readNumber(name, values[name])]),
  ) as Record<NumberName, number>;
  if (numbers.rooms > numbers.clients) {
    if (values.rooms !== undefined) {
      throw new UsageError(
        `--rooms=${numbers.rooms} is more than --clients=${numbers.clients}: ` +
          "choose fewer rooms or more clients.",
      );
    }
    numbers.rooms = numbers.clients;
  }
  const base = readBase(address);
  if (!values.yes) await checkIsHere(base);
  return { base, ...numbers, chart: values.chart };
}

function parse(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const numbers = Object.fromEntries(names.map((name) => [name, text]));
  const options = { chart: text, yes: flag, help: { ...flag, short: "h" } } as const;
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { ...options, ...numbers as Record<NumberName, typeof text> },
    });
  } catch (error) {
    const [sentence] = (error as Error).message.split(/(?<=[^.])\. /);
    throw new UsageError(`${sentence!.replace(/\.$/, "")}. --help lists the options.`);
  }
}

function readNumber(name: NumberName, text: string | undefined): number {
  const { byDefault, max } = NUMBERS[name];
  if (text === undefined) return byDefault;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= max) return value;
  throw new UsageError(`--${name} must be a whole number from 1 to ${max}, not "${text}".`);
}

function readBase(address: string): URL {
  const url = /^(ws|http)s?:\/\//i.test(address) ? URL.parse(address) : null;
  if (url === null || url.username + url.password + url.search + url.hash !== "") {
    throw new UsageError(
      "The address must be a server's, such as ws://localhost:8080 or https://chat.example, " +
        `without a user name, a query or a fragment, not "${address}".`,
    );
  }
  url.protocol = url.protocol.replace("http", "ws");
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url;
}

/** The loopback addresses (RFC 1122, 3.2.1.3; RFC 4291, 2.5.3). */
const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** @throws {UsageError} if the server is not on this machine */
async function checkIsHere({ hostname }: URL): Promise<void> {
  const host = hostname.replace(/^\[|\]$/g, "");
  const addresses = isIP(host) > 0 || host === "localhost" ? [host] : await resolve(host);
  if (addresses.every(isLoopback)) return;
  throw new UsageError(
    `${host} is another machine, where a load looks like an attack and may cost somebody money: ` +
      "add --yes if you may load it.",
  );
}

function isLoopback(address: string): boolean {
  if (address === "localhost") return true;
  return loopback.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");
}

async function resolve(host: string): Promise<string[]> {
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  } catch {
    throw new UsageError(`There is no host ${host}: check the address.`);
  }
}
