/** The page's timeline of a room: order, holes, and new messages. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type Message, Timeline } from "../public/page/timeline.js";
import { Random, seeds } from "./support/random.ts";

/** A message of Grace with this number. */
function numbered(seq: number, more: Partial<Message> = {}): Message {
  return {
    id: `id-${seq}`,
    seq,
    at: new Date(seq * 1000),
    author: "Grace",
    text: `message ${seq}`,
    own: false,
    status: "sent",
    ...more,
  };
}

/** An own message that the server has not stored yet. */
function pending(ref: string): Message {
  return { ref, at: new Date(), author: "Ada", text: ref, own: true, status: "sending" };
}

function range(from: number, to: number): Message[] {
  return Array.from({ length: to - from + 1 }, (_, index) => numbered(from + index));
}

/** A timeline in short form: numbers, and `(AFTER,BEFORE)` for a hole. */
function brief(timeline: Timeline): string {
  return withLine(timeline).replace("| ", "");
}

/** The same, with `|` for the line before new messages. */
function withLine(timeline: Timeline): string {
  return timeline.entries.map((entry) => {
    if (entry.kind === "message") return entry.seq ?? entry.text;
    if (entry.kind === "hole") return `(${entry.after},${entry.before})`;
    return entry.kind === "line" ? "|" : entry.kind;
  }).join(" ");
}

/** Joins a room: a welcome and the newest messages. */
function joined(newest: number, history: readonly Message[], timeline = new Timeline()): Timeline {
  timeline.expect(newest, { recovered: false });
  for (const message of history) timeline.add(message, { isOld: true });
  return timeline;
}

function firstHole(timeline: Timeline) {
  const hole = timeline.entries.find(({ kind }) => kind === "hole");
  assert(hole?.kind === "hole");
  return hole;
}

describe("A timeline", () => {
  it("has a hole at its start until everything is loaded", () => {
    const timeline = joined(18, range(13, 18));
    assertEquals(brief(timeline), "(0,13) 13 14 15 16 17 18");
    timeline.addPage(firstHole(timeline), "older", range(8, 12), true);
    assertEquals(brief(timeline), "(0,8) 8 9 10 11 12 13 14 15 16 17 18");
    timeline.addPage(firstHole(timeline), "older", range(2, 7), false);
    assertEquals(brief(timeline), "2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18");
  });

  it("of a server that sends no history is one hole", () => {
    const timeline = joined(180, []);
    assertEquals(brief(timeline), "(0,181)");
    assert(!timeline.isEmpty);
    timeline.add(numbered(181));
    timeline.addPage(firstHole(timeline), "older", range(178, 180), true);
    assertEquals(brief(timeline), "(0,178) 178 179 180 181");
    assert(joined(0, []).isEmpty);
  });

  it("knows its oldest number, whatever precedes it", () => {
    const timeline = new Timeline();
    timeline.add({ ...pending("from before the reload"), status: "failed" });
    joined(20, [], timeline);
    timeline.add(
      { ...numbered(1), id: "dm", at: new Date(1), seq: undefined!, to: "Ada" },
      { isOld: true },
    );
    for (const message of range(15, 20)) timeline.add(message, { isOld: true });
    assertEquals(firstHole(timeline).before, 15);
  });

  it("shows messages missing after a return as a hole, and fills it from both sides", () => {
    const timeline = joined(3, range(1, 3));
    joined(20, range(16, 20), timeline);
    assertEquals(brief(timeline), "1 2 3 (3,16) 16 17 18 19 20");
    const hole = firstHole(timeline);
    timeline.addPage(hole, "newer", range(4, 8), true);
    assertEquals(brief(timeline), "1 2 3 4 5 6 7 8 (8,16) 16 17 18 19 20");
    timeline.addPage(hole, "older", range(6, 15), true);
    assertEquals(brief(timeline), range(1, 20).map(({ seq }) => seq).join(" "));
  });

  it("has no hole if the history reaches back to known messages", () => {
    const timeline = joined(10, range(1, 10));
    joined(12, range(6, 12), timeline);
    assertEquals(brief(timeline), "1 2 3 4 5 6 7 8 9 10 11 12");
  });

  it("accepts a page around a jump target", () => {
    const timeline = joined(100, range(99, 100));
    const hole = timeline.holeAt(50);
    assert(hole);
    timeline.addAround(hole, range(49, 51), { older: true, newer: true });
    assertEquals(brief(timeline), "(0,49) 49 50 51 (51,99) 99 100");
    timeline.addAround(timeline.holeAt(2)!, range(1, 3), { older: false, newer: true });
    assertEquals(brief(timeline), "1 2 3 (3,49) 49 50 51 (51,99) 99 100");
    timeline.addAround(timeline.holeAt(52)!, range(51, 99), { older: true, newer: true });
    assertEquals(timeline.holeAt(60), undefined);
  });

  it("closes a hole without messages, and ignores a page for a closed hole", () => {
    const timeline = joined(9, range(8, 9));
    const hole = firstHole(timeline);
    timeline.addPage(hole, "older", [numbered(5, { deleted: true })], true);
    assertEquals(brief(timeline), "(0,5) 8 9");
    timeline.addPage(hole, "older", [], false);
    assertEquals(brief(timeline), "8 9");
    timeline.addPage(hole, "older", range(1, 3), false);
    assertEquals(brief(timeline), "8 9");
  });

  it("orders private messages among the others by time", () => {
    const timeline = joined(9, range(8, 9));
    const whisper: Message = {
      id: "dm",
      at: new Date(5500),
      author: "Grace",
      text: "psst",
      to: "Ada",
      own: false,
      status: "sent",
    };
    timeline.add(whisper, { isOld: true });
    assertEquals(brief(timeline), "(0,8) psst 8 9");
    timeline.addPage(firstHole(timeline), "older", range(4, 7), true);
    assertEquals(brief(timeline), "(0,4) 4 5 psst 6 7 8 9");
  });

  it("settles an own message, whether its ack or the message itself comes first", () => {
    for (const ackFirst of [true, false]) {
      const timeline = joined(1, range(1, 1));
      timeline.add(pending("a"));
      timeline.add(pending("b"));
      timeline.add(numbered(2));
      assertEquals(brief(timeline), "1 2 a b");
      const ack = { id: "id-3", seq: 3, status: "sent" as const };
      if (ackFirst) timeline.settle("a", ack);
      assert(!timeline.add(numbered(3, { ref: "a", own: true, author: "Ada" })));
      if (!ackFirst) timeline.settle("a", ack);
      timeline.add(numbered(4));
      assertEquals(brief(timeline), "1 2 3 4 b");
      assertEquals(timeline.size, 5);
      assertEquals(timeline.find("id-3")?.status, "sent");
    }
  });

  it("orders messages by number, whatever lies between them", () => {
    const timeline = joined(1, range(1, 1));
    timeline.add(pending("a"));
    timeline.add(numbered(3));
    timeline.addNotice("Linus", "joined");
    timeline.settle("a", { id: "id-2", seq: 2, status: "sent" });
    assertEquals(brief(timeline), "1 2 3 notice");
  });

  it("does not count another person's message as its own by the ref", () => {
    const timeline = joined(1, range(1, 1));
    timeline.add(pending("a"));
    assert(timeline.add(numbered(2, { ref: "a" })));
    assertEquals(brief(timeline), "1 2 a");
    timeline.discard("a");
    assertEquals(brief(timeline), "1 2");
  });

  it("puts an own message stored during an absence into its hole", () => {
    const timeline = joined(3, range(1, 3));
    timeline.add(pending("a"));
    joined(20, range(19, 20), timeline);
    timeline.settle("a", { id: "id-9", seq: 9, status: "sent" });
    assertEquals(brief(timeline), "1 2 3 (3,9) 9 (9,19) 19 20");
  });

  it("starts again with a new life of the room", () => {
    const timeline = joined(9, range(8, 9));
    timeline.makeStale();
    timeline.addGap("The server started anew");
    joined(4, [numbered(3, { id: "new-3" }), numbered(4, { id: "new-4" })], timeline);
    assertEquals(brief(timeline), "8 9 gap (0,3) 3 4");
    assertEquals(firstHole(timeline).before, 3);
    assert(timeline.find("id-8")?.stale);
  });

  it("keeps a bounded number of entries, and a hole for the others", () => {
    const timeline = joined(1, range(1, 1));
    for (const message of range(2, 10_500)) timeline.add(message);
    assert(timeline.entries.length <= 10_101, `${timeline.entries.length}`);
    const hole = firstHole(timeline);
    assertEquals(timeline.entries[0], hole);
    assert(timeline.entries.slice(0, 3).includes(timeline.findAt(hole.before)!));
    assertEquals(timeline.findAt(1), timeline.findAt(hole.before));
  });

  it("drops nothing while inserting a page", () => {
    const timeline = joined(20_000, range(19_951, 20_000));
    for (let at = 19_951; at > 9_000; at -= 50) {
      timeline.addPage(firstHole(timeline), "older", range(at - 50, at - 1), true);
    }
    timeline.add(numbered(20_001));
    const seqs = timeline.entries.flatMap((entry) => entry.kind === "message" ? entry.seq! : []);
    assertEquals(seqs, seqs.toSorted((a, b) => a - b));
    assert(timeline.entries.length <= 10_101);
    assertEquals(firstHole(timeline).before, seqs[0]);
  });

  it("draws the line before the first unread message of others", () => {
    const timeline = new Timeline();
    timeline.lastRead = { seq: 5 };
    joined(9, [...range(3, 5), numbered(6, { own: true }), ...range(7, 9)], timeline);
    assertEquals(withLine(timeline), "(0,3) 3 4 5 6 | 7 8 9");
    timeline.add(numbered(10));
    assertEquals(withLine(timeline), "(0,3) 3 4 5 6 | 7 8 9 10");
    timeline.add(pending("a"));
    assertEquals(withLine(timeline), "(0,3) 3 4 5 6 7 8 9 10 a");
  });

  it("moves the line up to unread messages loaded later", () => {
    const timeline = new Timeline();
    timeline.lastRead = { seq: 2 };
    joined(9, range(7, 9), timeline);
    assertEquals(withLine(timeline), "(0,7) | 7 8 9");
    timeline.addPage(firstHole(timeline), "older", range(1, 6), false);
    assertEquals(withLine(timeline), "1 2 | 3 4 5 6 7 8 9");
  });

  it("draws no line before messages that arrive while the reader watches", () => {
    let isWatching = true;
    const timeline = joined(1, range(1, 1));
    const ignore = () => {};
    timeline.listen({
      inserted: ignore,
      removed: ignore,
      changed: ignore,
      isWatching: () => isWatching,
      mayDrop: () => true,
    });
    timeline.add(numbered(2));
    isWatching = false;
    timeline.add(numbered(3));
    timeline.add(numbered(4));
    assertEquals(withLine(timeline), "1 2 | 3 4");
    timeline.lastRead = { seq: 4 };
    assertEquals(withLine(timeline), "1 2 3 4");
    isWatching = true;
    // Missed messages arrive after the welcome, while the reader watches.
    timeline.expect(6, { recovered: true });
    for (const message of range(5, 7)) timeline.add(message);
    assertEquals(withLine(timeline), "1 2 3 4 | 5 6 7");
  });

  it("reports a change of a reply when the answered message changes", () => {
    const timeline = joined(1, range(1, 1));
    timeline.add(numbered(2, { replyTo: "id-1" }));
    const changed: unknown[] = [];
    timeline.listen({
      inserted: () => {},
      removed: () => {},
      changed: (entry) => changed.push(entry),
      isWatching: () => true,
      mayDrop: () => true,
    });
    timeline.change("id-1", { text: "", deleted: true });
    assertEquals(changed, [timeline.find("id-1"), timeline.find("id-2")]);
  });

  for (const seed of seeds(50)) {
    it(`is complete in the end, with its pages in any order (SEED=${seed})`, () => {
      const random = new Random(seed);
      const newest = 60;
      const deleted = new Set(
        range(1, newest).map(({ seq }) => seq!).filter(() => random.percent(20)),
      );
      const stored = range(1, newest).map((message) =>
        deleted.has(message.seq!) ? { ...message, deleted: true } : message
      );
      const shown = stored.filter((message) => !message.deleted);
      const page = (from: number, to: number) =>
        shown.filter(({ seq }) => seq! > from && seq! < to);
      const timeline = joined(newest, shown.slice(-5));
      for (let turns = 0; turns < 500; turns++) {
        const holes = timeline.entries.filter(({ kind }) => kind === "hole");
        if (holes.length === 0) break;
        const hole = random.pick(holes);
        if (hole.kind !== "hole") continue;
        const size = 1 + random.below(6);
        const what = random.pick(["older", "newer", "around"] as const);
        if (what === "around") {
          const at = hole.after + 1 + random.below(hole.before - hole.after - 1);
          const messages = page(at - size, at + size);
          timeline.addAround(hole, messages, {
            older: shown.some(({ seq }) => seq! < (messages[0]?.seq ?? 0)),
            newer: shown.some(({ seq }) => seq! > (messages.at(-1)?.seq ?? Infinity)),
          });
          // An empty page closes the hole: the request was around an existing message.
          if (messages.length === 0) {
            for (const message of page(hole.after, hole.before)) timeline.add(message);
          }
        } else if (what === "older") {
          const all = page(0, hole.before);
          timeline.addPage(hole, what, all.slice(-size), all.length > size);
        } else if (hole.after > 0) {
          const all = page(hole.after, Infinity);
          timeline.addPage(hole, what, all.slice(0, size), all.length > size);
        }
        const seqs = timeline.entries.flatMap((entry) =>
          entry.kind === "message" ? [entry.seq!] : []
        );
        assertEquals(seqs, seqs.toSorted((a, b) => a - b));
      }
      assertEquals(brief(timeline), shown.map(({ seq }) => seq).join(" "));
    });
  }
});
