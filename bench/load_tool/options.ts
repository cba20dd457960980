/**
 * The command line of `deno task load`.
 *
 * @module
 */

import { lookup } from "node:dns/promises";
import { BlockList, isIP } from "node:net";
import { parseArgs } from "node:util";

/** What a load does. */
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

/** The command line asks for what the tool does not do. The message is a sentence. */
export class UsageError extends Error {}

/** Each number: its default, and its bounds. */
const NUMBERS = {
  clients: { byDefault: 100, max: 2000, what: "guests, all from this machine" },
  rate: { byDefault: 50, max: 5000, what: "messages a second, of all guests together" },
  rooms: { byDefault: 10, max: 2000, what: "rooms, over which the guests are spread" },
  seconds: { byDefault: 20, max: 300, what: "seconds of sending" },
  size: { byDefault: 64, max: 16_384, what: "bytes of a message's text" },
} as const;

type NumberName = keyof typeof NUMBERS;

const names = Object.keys(NUMBERS) as NumberName[];

/** The limits of a server that a load from one address runs into, turned off. */
export const SETTINGS = "JOIN_RATE_PER_ADDRESS=0 MAX_CONNECTIONS_PER_ADDRESS=0 MESSAGE_RATE=0 " +
  "MESSAGE_RATE_PER_ADDRESS=0";

/** What `--help` prints. */
export const HELP = `Loads a Hubbub server of yours and says how it does.

  deno task load ws://localhost:8080 --clients=100 --rate=50 --rooms=10 --seconds=20

${names.map(describe).join("\n")}
  --chart=FILE    draws throughput and latency over time into an SVG file
  --yes           the server is on another machine, and it is yours to load

The address is ws://, wss://, http:// or https://, with a path if the server has one.
A server limits what one address may do. Start it for a load with:

  ${SETTINGS}

Ctrl-C ends early and prints the table. The status is 1 if there was no load to speak of, and 2 if a
message was lost or doubled.`;

function describe(name: NumberName): string {
  const { what, byDefault, max } = NUMBERS[name];
  return `  --${name}=N`.padEnd(18) + `${what}: ${byDefault}, at most ${max}`;
}

/**
 * Reads the command line.
 *
 * @returns `undefined` if it asks for help
 * @throws {UsageError} if it cannot be done, or should not
 */
export async function readLoadOptions(args: readonly string[]): Promise<LoadOptions | undefined> {
  const { values, positionals } = parse(args);
  if (values.help) return undefined;
  const [address, ...more] = positionals;
  if (address === undefined || more.length > 0) {
    throw new UsageError(
      "Name one server, such as ws://localhost:8080, and write options as --clients=100.",
    );
  }
  const numbers = Object.fromEntries(
    names.map((name) => [name, readNumber(name, values[name])]),
  ) as Record<NumberName, number>;
  if (numbers.rooms > numbers.clients) {
    if (values.rooms !== undefined) {
      throw new UsageError(
        `--rooms=${numbers.rooms} is more than one room for each of ${numbers.clients} clients: ` +
          "have fewer rooms or more clients.",
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
    throw new UsageError(`${sentence!.replace(/\.$/, "")}. --help lists what there is.`);
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
      "The address must be that of a server, such as ws://localhost:8080 or https://chat.example, " +
        `without a name, a query or a fragment, not "${address}".`,
    );
  }
  url.protocol = url.protocol.replace("http", "ws");
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url;
}

/** The addresses of this machine to itself (RFC 1122, 3.2.1.3; RFC 4291, 2.5.3). */
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
      "add --yes if it is yours to load.",
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
    throw new UsageError(`Nothing has the name ${host}: check the address.`);
  }
}
