/**
 * An attacker in a Worker, so that it does not disturb the measurement. It attacks over one connection
 * at a time, and reconnects whenever it is cut off.
 *
 * @module
 */

import { concat, frame, handshake, RawClient } from "./raw.ts";

/** The attack. */
export const ATTACKS = {
  "a flood of messages": () => repeat('{"type":"chat","content":"flood"}', 500),
  "messages just slow enough to avoid a cut-off": () =>
    repeat('{"type":"chat","content":"flood"}', 5),
  "frames of 32 KB, the maximum": () => repeat(`{"x":"${"x".repeat(32_000)}"}`, 50),
  "frames of nested lists": () => repeat(`{"x":${"[".repeat(8000)}${"]".repeat(8000)}}`, 50),
  "frames of 8 MB": () => frame("x".repeat(8 * 1024 * 1024)),
  "typing on and off": () =>
    concat([
      repeat('{"type":"typing","active":true}', 1),
      repeat('{"type":"typing","active":false}', 1),
    ]),
  "requests for history": () => repeat('{"type":"history","limit":100}', 100),
  "frames that are not JSON": () => repeat('{"type":', 500),
  "a flood of /echo": () => repeat("x".repeat(100), 500),
  "logins": undefined,
} as const satisfies Record<string, (() => Uint8Array<ArrayBuffer>) | undefined>;

/** One of the attacks. */
export type Attack = keyof typeof ATTACKS;

/** An order to the attacker. */
export interface Order {
  kind: Attack;
  port: number;
  /** Where, unless it signs in. */
  room: string;
}

/** Simultaneous logins: more than may wait for a thread. */
const LOGINS = 96;

/** Time between two writes of the attack that avoids a cut-off, in milliseconds. */
const PACE_MS = 10;

const counts: Record<string, number> = {};
const count = (what: string) => counts[what] = (counts[what] ?? 0) + 1;

function repeat(text: string, times: number): Uint8Array<ArrayBuffer> {
  const one = frame(text);
  return concat(Array.from({ length: times }, () => one));
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

async function attackRoom(kind: Attack, port: number, room: string): Promise<void> {
  const data = ATTACKS[kind]!();
  // From another address than the measuring clients.
  const address = { "X-Forwarded-For": "192.0.2.66" };
  const isEcho = kind === "a flood of /echo";
  const headers = isEcho ? address : { ...address, "Sec-WebSocket-Protocol": "chat.v1" };
  while (true) {
    using client = await RawClient.connect(port);
    const target = isEcho ? "/echo" : `/ws/${room}?username=mallory-${Date.now()}`;
    await client.write(handshake(target, { headers }));
    const { status } = await client.readAnswer();
    count(`${status}`);
    if (status !== 101) {
      await pause(50);
      continue;
    }
    let isOpen = true;
    const reading = client.readFrames().then(() => isOpen = false);
    while (isOpen) {
      await client.write(data);
      count("writes");
      if (kind.includes("slow")) await pause(PACE_MS);
      else await pause(0);
    }
    await reading;
  }
}

async function attackLogin(port: number): Promise<void> {
  while (true) {
    const response = await fetch(`http://127.0.0.1:${port}/api/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username: "alice", password: "a wrong password" }),
    });
    await response.body?.cancel();
    count(`${response.status}`);
    if (response.status === 503) await pause(5);
  }
}

/** The worker's side of this module. */
const worker = globalThis as unknown as {
  onmessage: (event: MessageEvent<Order>) => void;
  postMessage(counts: Record<string, number>): void;
};

// The first order begins the attack, a second one asks for the counts.
if ("WorkerGlobalScope" in globalThis) {
  worker.onmessage = ({ data: { kind, port, room } }) => {
    if (kind === "logins") { for (let i = 0; i < LOGINS; i++) attackLogin(port); }
    else attackRoom(kind, port, room);
    worker.postMessage({});
    worker.onmessage = () => worker.postMessage(counts);
  };
}
