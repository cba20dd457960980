/** Completions of an unfinished text. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { readLine } from "../public/commands.js";
import { suggest } from "../public/page/suggestions.js";

const NAMES = ["Grace Hopper", "Grace", "Ada", "José", "李 小龍", "أحمد علي", "Миша", "gray-hound"];
const labels = (before: string) => suggest(before, NAMES)?.options.map(({ label }) => label) ?? [];

/** The text after taking the first option. */
function taken(before: string, names: readonly string[] = NAMES): string {
  const found = suggest(before, names)!;
  return before.slice(0, found.from) + found.options[0]!.insert;
}

describe("suggestions", () => {
  it("complete people after an @, by the start of any word of their names", () => {
    assertEquals(labels("hi @gr"), ["Grace", "Grace Hopper", "gray-hound"]);
    assertEquals(labels("@HOP"), ["Grace Hopper"]);
    assertEquals(labels("(@hound"), ["gray-hound"]);
    assertEquals(labels("@grace  ho"), ["Grace Hopper"]);
    assertEquals(labels("one\n@jose"), ["José"]);
    assertEquals([labels("@李"), labels("＠小"), labels("@ми"), labels("@عل")].flat(), [
      "李 小龍",
      "李 小龍",
      "Миша",
      "أحمد علي",
    ]);
    for (const text of ["", "hi", "a@gr", "@ race", "@zoe", "@grace hopper!", "gr", "@ace"]) {
      assertEquals(labels(text), [], text);
    }
  });

  it("insert a name as its owner spells it", () => {
    assertEquals(taken("hi @grac"), "hi @Grace ");
    assertEquals(taken("hi @hopp"), "hi @Grace Hopper ");
    assertEquals(taken("@grace ho"), "@Grace Hopper ");
    assertEquals(taken(`${"long ".repeat(1000)}@hopp`), `${"long ".repeat(1000)}@Grace Hopper `);
  });

  it("complete commands after a / at the start, and never in an edit", () => {
    assertEquals(labels("/").length, 5);
    assertEquals(labels("/M"), ["/me waves", "/msg NAME text"]);
    assertEquals(taken("/ms"), "/msg ");
    assertEquals(taken("/HE"), "/help");
    for (const text of ["/help", "/msg", "//", "a /m", "/usr/bin", "/x"]) {
      assertEquals(labels(text), [], text);
    }
    assertEquals(suggest("/m", NAMES, { commands: false }), undefined);
    assertEquals(suggest("/msg gr", NAMES, { commands: false }), undefined);
    assert(suggest("@gr", NAMES, { commands: false }));
  });

  it("complete receivers after /msg", () => {
    assertEquals(labels("/msg ").length, NAMES.length);
    assertEquals(labels("/W hop"), ["Grace Hopper"]);
    assertEquals(labels('/msg "grace h'), ["Grace Hopper"]);
    const meant = { hop: "Grace Hopper", "“hop": "Grace Hopper", "@gra": "Grace" };
    for (const [start, to] of Object.entries(meant)) {
      const line = readLine(`${taken(`/msg ${start}`)}hopper is here`, NAMES);
      assertEquals(line, { type: "whisper", to, text: "hopper is here" });
    }
    assertEquals(taken("/msg ad"), "/msg Ada ");
    for (const text of ["/msg Ada hi", '/msg "Grace Hopper" ', "/msg Ada"]) {
      assertEquals(labels(text), [], text);
    }
    assertEquals(labels("/msg Ada ask @hop"), ["Grace Hopper"]);
  });

  it("are taken by Enter only for a word that is begun and incomplete", () => {
    for (const text of ["@gr", "/m", "/msg gr", "@grace h"]) assert(suggest(text, NAMES)!.isLikely);
    for (const text of ["@", "/", "/msg ", "@Grace", "@grace ", "/msg grace"]) {
      assert(!suggest(text, NAMES)!.isLikely, text);
    }
  });

  it("are at most eight, and fast in a large room", () => {
    const crowd = Array.from({ length: 10_000 }, (_, n) => `Guest ${n}`);
    const start = performance.now();
    assertEquals(suggest("@gu", crowd)?.options.map(({ label }) => label).slice(0, 2), [
      "Guest 0",
      "Guest 1",
    ]);
    assertEquals(suggest("@", crowd)?.options.length, 8);
    suggest("@ ".repeat(50_000), crowd);
    suggest(`/msg ${"“ ".repeat(50_000)}`, crowd);
    assert(performance.now() - start < 1500);
  });
});
