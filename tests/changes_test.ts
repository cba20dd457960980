import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { applyChange, checkChange, isErasure, toLogEvent } from "../lib/engine/changes.ts";
import type { Change } from "../lib/engine/engine.ts";
import { ChatError, type ErrorCode } from "../lib/errors.ts";
import type { ChatEvent } from "../lib/protocol/events.ts";

const timestamp = "2026-01-02T03:04:05.678Z";
const message: ChatEvent = {
  type: "chat",
  content: "first",
  room: "r",
  username: "alice",
  id: "e-1",
  seq: 1,
  timestamp,
};
const author = { username: "ALICE", person: "guest:a", origin: "c", id: "e-1" };
const edit: Change = { ...author, type: "edit", content: "second" };
const deletion: Change = { ...author, type: "delete" };
const edited = toLogEvent(message, edit, { seq: 2, timestamp });
const deleted = toLogEvent(message, deletion, { seq: 3, timestamp });

function assertRefused(run: () => void, code: ErrorCode): void {
  assertEquals(assertThrows(run, ChatError).code, code);
}

describe("A change", () => {
  it("is the author's, or a moderator's, of a message that is there", () => {
    const found = { event: message, person: "guest:a" };
    assertEquals(checkChange(found, edit), message);
    const stranger = { ...deletion, person: "guest:b" };
    assertRefused(() => checkChange(found, stranger), "forbidden");
    assertEquals(checkChange(found, { ...stranger, isModerator: true }), message);
    const gone = [undefined, { ...found, event: edited }, {
      ...found,
      event: applyChange(message, deleted),
    }];
    for (const one of gone) assertRefused(() => checkChange(one, deletion), "not_found");
  });

  it("is an event of its own, under the message's id and name", () => {
    const { type: _, ...base } = message;
    assertEquals(edited, { ...base, type: "message_updated", content: "second", seq: 2 });
    assertEquals(deleted, { ...base, type: "message_deleted", content: "", seq: 3 });
    assert(isErasure(deleted) && !isErasure(edited) && !isErasure(message));
  });

  it("alters its message, and as a deletion its edits too", () => {
    const now = applyChange(message, edited);
    assertEquals(now, { ...message, content: "second", edited: true });
    assertEquals(applyChange(edited, { ...edited, content: "third", seq: 4 }), edited);
    assertEquals(applyChange(now, deleted), { ...message, content: "", deleted: true });
    assertEquals(applyChange(edited, deleted), { ...edited, content: "" });
    assertEquals(applyChange(deleted, deleted), deleted);
  });

  it("alters nothing about another message", () => {
    const other = { ...message, id: "e-9", seq: 9 };
    for (const change of [edited, deleted, message]) {
      assertEquals(applyChange(other, change), other);
    }
    assertEquals(applyChange(message, message), message);
  });
});
