/** The meaning of a typed line, in the page and in the terminal client. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { isSpeech, quoteName, readLine } from "../public/commands.js";

const NAMES = ["Ada", "Ada Two", "Grace Hopper", "José María", "O’Brien", "أحمد علي", "李 小龍"];
const read = (text: string) => readLine(text, NAMES);

describe("a typed line", () => {
  it("is a message as typed, unless it begins with a command", () => {
    const lines = [
      "hello",
      "// TODO: tidy\nfoo();",
      "//cdn.example/x.js",
      "//help",
      "/ hello",
      "/",
    ];
    lines.push("/usr/bin", "/tmp, /var", "/msg/ is a folder", "/w.txt", "/wörter", "/привет всем");
    for (const text of [...lines, " /help", "see /msg Ada hi"]) {
      assertEquals(read(text), { type: "say", text });
    }
  });

  it("is a command, in any case", () => {
    assertEquals(read("/ME waves"), { type: "say", text: "/me waves" });
    assertEquals(read("／me waves"), { type: "say", text: "/me waves" });
    assertEquals(read("/say /help is a command"), { type: "say", text: "/help is a command" });
    assertEquals(read("/say  /frob"), { type: "say", text: "/frob" });
    assertEquals(read("/nick Countess Ada"), { type: "nick", name: "Countess Ada" });
    assertEquals(read("/help "), { type: "help" });
  });

  it("is refused with a sentence if its command is unknown", () => {
    const lines = [
      "/me",
      "/me ",
      "/nick ",
      "/say",
      "/frob",
      "/mgs Ada psst",
      "/who",
      "/who is it?",
    ];
    for (const text of [...lines, "/help me, I am stuck", "/HELP\nme"]) {
      const line = read(text);
      assert(line.type === "wrong" && !line.isPrivate && line.why !== "", text);
    }
  });

  it("names a person in the room by the longest name that fits", () => {
    const whisper = (to: string, text: string) => ({ type: "whisper" as const, to, text });
    assertEquals(read("/msg ada two hi\nyou"), whisper("Ada Two", "hi\nyou"));
    assertEquals(read("/msg Ada Twofold"), whisper("Ada", "Twofold"));
    assertEquals(read("/w  GRACE   hopper  hi"), whisper("Grace Hopper", "hi"));
    assertEquals(read("/msg José María hola".normalize("NFD")), whisper("José María", "hola"));
    assertEquals(read("/msg o'brien hi"), whisper("O’Brien", "hi"));
    assertEquals(read("/msg أحمد علي مرحبا"), whisper("أحمد علي", "مرحبا"));
    assertEquals(read("／msg　李　小龍　你好"), whisper("李 小龍", "你好"));
    assertEquals(read("  /msg @Ada psst"), whisper("Ada", "psst"));
    assertEquals(read("/msg@Ada psst"), whisper("Ada", "psst"));
    assertEquals(read("/ Msg Ada psst"), whisper("Ada", "psst"));
    assertEquals(read("\u200f/msg \u200fأحمد علي مرحبا"), whisper("أحمد علي", "مرحبا"));
  });

  it("names any person in quotes, of any keyboard", () => {
    for (
      const quoted of ['"grace hopper"', "“Grace Hopper”", "„Grace Hopper“", "« Grace Hopper »"]
    ) {
      for (const before of ["/msg ", "/msg", "/w @"]) {
        const expected = { type: "whisper" as const, to: "Grace Hopper", text: 'said "hi"' };
        assertEquals(read(`${before}${quoted} said "hi"`), expected);
      }
    }
    assertEquals(read('/msg "Grace" hi'), { type: "whisper", to: "Grace", text: "hi" });
    assertEquals(readLine('/msg "Alan Turing" hi', []), {
      type: "whisper",
      to: "Alan Turing",
      text: "hi",
    });
  });

  it("reaches nobody if its receiver is not certain", () => {
    assertEquals(read("/msg Linus hi"), { type: "whisper", to: "Linus", text: "hi" });
    const lines = ["Grace hi", "gra hi", "Hopper hi", "Grace Hoper hi", "Ada, hi", "Ada: hi"];
    lines.push("Ada. hi", "Ada", "", '"" hi', '"Grace Hopper hi', '"Grace Hopper"hi');
    lines.push('"Grace Hopper" ', "'Grace Hopper' hi", "أح hi", "<script> hi", "Jose hi");
    for (const rest of lines) {
      const line = read(`/msg ${rest}`);
      assert(line.type === "wrong" && line.isPrivate, rest);
    }
    const early = readLine("/msg Ada Two hi", []);
    assert(early.type === "wrong" && early.isPrivate);
    assertStringIncludes(early.why, '/msg "NAME" text');
  });

  it("reads a completed name", () => {
    const names = [...NAMES, "Grace", "-", "٣", "🦊 fox"];
    for (const name of names) {
      const line = readLine(`/msg ${quoteName(name, names)} hopper two`, names);
      assertEquals(line, { type: "whisper", to: name, text: "hopper two" });
    }
    assertEquals(quoteName("Linus", NAMES), "Linus");
    assertEquals(quoteName("Ada", NAMES), '"Ada"');
  });

  it("shows as typing only if it is for the room", () => {
    for (const text of ["hi", "/me w", "/say x", "//", "see /msg"]) assert(isSpeech(text), text);
    for (const text of ["", "/", "/m", "/msg Ada", " /w Ada", "\u200f/msg", "／msg", "/me"]) {
      assert(!isSpeech(text), text);
    }
  });

  it("is read in time proportional to its length", () => {
    const names = Array.from({ length: 100 }, (_, n) => `Guest ${n}`);
    const start = performance.now();
    for (const text of ["a ", '"', "\u0301", "“a ", "@"]) {
      readLine(`/msg ${text.repeat(30_000)}`, names);
    }
    assert(performance.now() - start < 1000);
  });
});
