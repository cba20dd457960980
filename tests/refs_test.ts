import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Refs } from "../lib/engine/refs.ts";

describe("Refs", () => {
  it("knows a ref by who used it", () => {
    const refs = new Refs(10);
    refs.add("alice", "1", 1);
    refs.add("bob", "1", 2);
    assertEquals(refs.get("alice", "1"), 1);
    assertEquals(refs.get("bob", "1"), 2);
    assertEquals(refs.get("bob", "2"), undefined);
    assertEquals(refs.get("carol", "1"), undefined);
  });

  it("knows the newest, and never more than twice as many as it must", () => {
    const refs = new Refs(10);
    for (let seq = 1; seq <= 1000; seq++) {
      refs.add(`user${seq % 3}`, `${seq}`, seq);
      const knows = (other: number) => refs.get(`user${other % 3}`, `${other}`) === other;
      for (let newer = Math.max(1, seq - 9); newer <= seq; newer++) assert(knows(newer));
      for (let older = Math.max(1, seq - 40); older <= seq - 20; older++) assert(!knows(older));
    }
  });

  it("forgets what was used after a seq, as if it had never been", () => {
    const refs = new Refs(10);
    for (let seq = 1; seq <= 15; seq++) refs.add(`user${seq % 2}`, `${seq}`, seq);
    refs.forgetAfter(8);
    const knows = (seq: number) => refs.get(`user${seq % 2}`, `${seq}`) === seq;
    for (let seq = 1; seq <= 15; seq++) assertEquals(knows(seq), seq <= 8);
    for (let seq = 9; seq <= 15; seq++) refs.add(`user${seq % 2}`, `${seq}`, seq);
    for (let seq = 6; seq <= 15; seq++) assert(knows(seq));
  });

  it("forgets what was used before a seq, and nothing else", () => {
    const refs = new Refs(10);
    for (let seq = 1; seq <= 15; seq++) refs.add("alice", `${seq}`, seq);
    refs.forgetBefore(13);
    for (let seq = 1; seq <= 15; seq++) {
      assertEquals(refs.get("alice", `${seq}`), seq < 13 ? undefined : seq);
    }
    assert(!refs.isEmpty);
    refs.forgetBefore(16);
    assert(refs.isEmpty);
    // And it still keeps as many as it must.
    for (let seq = 16; seq <= 25; seq++) refs.add("alice", `${seq}`, seq);
    for (let seq = 16; seq <= 25; seq++) assertEquals(refs.get("alice", `${seq}`), seq);
  });
});
