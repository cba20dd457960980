import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { ChatEvent, LogEvent } from "../lib/protocol/events.ts";
import { RecentEvents, TAIL } from "../lib/room/recent.ts";

const base = { room: "r", username: "alice", timestamp: "2026-01-02T03:04:05.678Z" };

function chat(seq: number, content = `text ${seq}`): ChatEvent {
  return { type: "chat", content, ...base, id: `e-${seq}`, seq };
}

function add(tail: RecentEvents, ...events: LogEvent[]): void {
  for (const event of events) tail.add(event, JSON.stringify(event));
}

function chats(from: number, to: number, content?: string): ChatEvent[] {
  return Array.from({ length: to - from + 1 }, (_, i) => chat(from + i, content));
}

const seqs = (tail: RecentEvents, count: number) =>
  tail.last(count)?.map(({ event }) => (event as LogEvent).seq);

describe("RecentEvents", () => {
  it("has the newest events, at least as many as it must and not many more", () => {
    const tail = new RecentEvents(10, chats(1, 5));
    for (let seq = 6; seq <= 1000; seq++) {
      add(tail, chat(seq));
      const count = Math.min(seq, TAIL);
      assertEquals(seqs(tail, count)?.at(0), seq - count + 1);
      assertEquals(seqs(tail, count)?.at(-1), seq);
      assertEquals(tail.last(TAIL * 2), undefined);
    }
    assertEquals(tail.last(0), []);
  });

  it("has fewer if they are long", () => {
    const tail = new RecentEvents(10);
    for (let seq = 1; seq <= 500; seq++) {
      add(tail, chat(seq, "x".repeat(4000)));
      const most = [...Array(TAIL).keys()].findLast((count) => tail.last(count) !== undefined)!;
      assert(most >= Math.min(seq, 15) && most <= 21, `${most} of ${seq}`);
      assertEquals(seqs(tail, most)?.at(-1), seq);
    }
    add(tail, chat(501, "x".repeat(100_000)));
    assertEquals(tail.last(1), undefined);
    add(tail, chat(502));
    assertEquals(seqs(tail, 1), [502]);
  });

  it("gives the newest messages to those who join, as history", () => {
    const tail = new RecentEvents(3, [], [chat(1), chat(2)]);
    const history = () => tail.history().map(({ event }) => event);
    const again = (seq: number) => ({ ...chat(seq), history: true }) as const;
    assertEquals(history(), [again(1), again(2)]);
    add(tail, chat(3), chat(4));
    assertEquals(history(), [again(2), again(3), again(4)]);
    assertEquals(new RecentEvents(0, [], []).history(), []);
    const none = new RecentEvents(0);
    add(none, chat(1), chat(2));
    assertEquals(none.history(), []);
  });

  it("has messages as they are now", () => {
    const tail = new RecentEvents(10);
    // A text that looks like the id of another message is a text.
    const quoted = chat(3, '"id":"e-1"');
    add(tail, chat(1), chat(2), quoted);
    const edit = { ...base, type: "message_updated", content: "new", id: "e-1", seq: 4 } as const;
    add(tail, edit);
    const edited = { ...chat(1), content: "new", edited: true } as const;
    const events = () => tail.last(4)?.map(({ event }) => event);
    assertEquals(events(), [edited, chat(2), quoted, edit]);
    assertEquals(tail.history().map(({ event }) => (event as ChatEvent).content), [
      "new",
      "text 2",
      '"id":"e-1"',
    ]);

    const wiped = { ...base, type: "message_deleted", content: "", id: "e-1", seq: 5 } as const;
    add(tail, wiped);
    const deleted = { ...chat(1), content: "", deleted: true } as const;
    assertEquals(tail.last(5)?.map(({ event }) => event), [
      deleted,
      chat(2),
      quoted,
      { ...edit, content: "" },
      wiped,
    ]);
    assertEquals(tail.history().map(({ event }) => (event as ChatEvent).id), ["e-2", "e-3"]);
    for (
      const { event, text } of tail.last(5)!.map((one) => ({
        event: one.event,
        text: one.text("v1"),
      }))
    ) {
      assertEquals(JSON.parse(text!), event);
    }
  });
});
