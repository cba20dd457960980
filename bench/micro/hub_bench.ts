/**
 * The cost of receiving and delivering a message in the hub, without a network: peers do nothing.
 */

import { setImmediate } from "node:timers";
import { Hub } from "../../hub.ts";
import { MemoryEngine } from "../../lib/engine/memory.ts";
import { createLogger } from "../../lib/logger.ts";
import { TrafficLimiter } from "../../lib/rate_limit.ts";
import type { Member } from "../../lib/room/room.ts";

const MESSAGES = 32;

/** Makes a room with this many members, and a function that sends messages and awaits delivery. */
async function fill(members: number, format: "v1" | "json") {
  let id = 0;
  let time = 0;
  const newId = () => String(++id);
  const clock = () => time++;
  const logger = createLogger({ level: "error" });
  const unlimited = { perSecond: Infinity, burst: Infinity };
  const hub = new Hub({
    engine: new MemoryEngine({ clock, newId, keep: 1000, leaseMs: Infinity }),
    limits: {
      maxMessageBytes: 4096,
      maxFrameBytes: 16384,
      maxRooms: Infinity,
      historySize: 50,
      sendQueueFrames: 256,
      sendQueueBytes: 1024 * 1024,
      writeWaitMs: Infinity,
      messageRate: unlimited,
    },
    traffic: new TrafficLimiter({ frames: unlimited, bytes: unlimited }, clock),
    logger,
    refusals: logger,
    failures: logger,
    clock,
    date: Date.now,
    newId,
    turn: { deliver: setImmediate, hear: () => {} },
    // Calls back at once, so that no run waits.
    after: (_ms, callback) => void setImmediate(callback),
  });
  let frames = 0;
  const peer = { bufferedAmount: 0, send: () => void frames++, close: () => {} };
  const joined: Member[] = [];
  for (let i = 0; i < members; i++) {
    const secret = `guest ${i}`;
    const identity = { person: `guest:${secret}`, secret, isProven: false };
    const request = { room: "r", username: `user ${i}`, identity, format };
    await hub.admit(request);
    joined.push(hub.join(peer, request));
  }
  await new Promise((resolve) => setTimeout(resolve, 10));
  return {
    async say(messages: number) {
      const before = frames;
      for (let i = 0; i < messages; i++) {
        const frame = `{"type":"chat","content":"the quick brown fox","ref":"${newId()}"}`;
        hub.receive(joined[i % members]!, frame);
      }
      const wanted = members * (format === "v1" ? 1 : messages);
      while (frames - before < wanted) await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

for (const format of ["v1", "json"] as const) {
  for (const members of [32, 1000]) {
    const room = await fill(members, format);
    const name = `${MESSAGES} messages in one turn to ${members} members, ${format}`;
    Deno.bench(name, { group: `${members}` }, () => room.say(MESSAGES));
  }
}
