import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Refs } from "../lib/engine/refs.ts";

describe("Refs", () => {
  it("knows a ref by its person", () => {
    const refs = new Refs(10);
    refs.add("alice", "1", 1);
    refs.add("bob", "1", 2);
    assertEquals(refs.get("alice", "1"), 1);
    assertEquals(refs.get("bob", "1"), 2);
    assertEquals(refs.get("bob", "2"), undefined);
    assertEquals(refs.get("carol", "1"), undefined);
  });

  it("knows the newest refs, and at most twice the minimum", () => {
    const refs = new Refs(10);
    for (let seq = 1; seq <= 1000; seq++) {
      refs.add(`user${seq % 3}`, `${seq}`, seq);
      const knows = (other: number) => refs.get(`user${other % 3}`, `${other}`) === other;
      for (let newer = Math.max(1, seq - 9); newer <= seq; newer++) assert(knows(newer));
      for (let older = Math.max(1, seq - 40); older <= seq - 20; older++) assert(!knows(older));
    }
  });

  it("counts the refs it knows", () => {
    const refs = new Refs(10);
    for (let seq = 1; seq <= 15; seq++) refs.add("alice", `${seq}`, seq);
    assertEquals(refs.size, 15);
    for (let seq = 16; seq <= 21; seq++) refs.add("bob", `${seq}`, seq);
    assertEquals(refs.size, 11);
  });
});
