/** Strangers' texts on the page: none takes long to read. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { isSealed } from "../../public/cipher.js";
import { splitAtLinks } from "../../public/page/links.js";
import { quantile } from "../support/people.ts";
import { Random, seeds } from "../support/random.ts";

/** Maximum bytes of a message. */
const SIZE = 4096;

/** Maximum time for a text, in milliseconds. */
const MOST_MS = 5;

function timeOf(read: () => unknown): number {
  const times = Array.from({ length: 5 }, () => {
    const start = performance.now();
    read();
    return performance.now() - start;
  });
  return quantile(times);
}

const fill = (head: string, part: string) => head + part.repeat((SIZE - head.length) / part.length);

describe("A text of the size limit", () => {
  const PARTS = [
    ")",
    "(",
    "()",
    ")(",
    ".",
    "?!",
    "]})",
    "http://",
    "http://a ",
    "http://a/) ",
    "*)'",
  ];
  for (const seed of seeds(1)) {
    it(`is split at its links within ${MOST_MS} ms, whatever it contains (SEED=${seed})`, () => {
      const random = new Random(seed);
      const texts = PARTS.flatMap((part) =>
        ["", "http://a/", "https://a/(", "see (http://a/"].map((head) => fill(head, part))
      );
      const signs = [...PARTS.join(""), "h", "http://a/b_(c)", "日", "\u0301", " "];
      for (let i = 0; i < 50; i++) {
        let text = random.pick(["", "http://a/"]);
        while (text.length < SIZE) text += random.pick(signs);
        texts.push(text);
      }
      for (const text of texts) {
        const ms = timeOf(() => splitAtLinks(text));
        assert(ms < MOST_MS, `${ms} ms for ${text.slice(0, 40)}`);
        assertEquals(splitAtLinks(text).join(""), text);
        assert(timeOf(() => isSealed(text)) < MOST_MS);
      }
    });
  }

  it("takes time in proportion to its length", () => {
    const short = fill("http://a/", ")");
    const long = short + ")".repeat(15 * SIZE);
    const once = Math.max(0.02, timeOf(() => splitAtLinks(short)));
    assert(timeOf(() => splitAtLinks(long)) < 16 * 10 * once);
  });
});

describe("The links of a text", () => {
  const CASES: [text: string, ...parts: string[]][] = [
    ["no link", "no link"],
    ["see http://a/b.", "see ", "http://a/b", "."],
    ["(http://a/b)", "(", "http://a/b", ")"],
    ["http://a/b_(c)", "", "http://a/b_(c)", ""],
    ["(http://a/b_(c))!", "(", "http://a/b_(c)", ")!"],
    ["http://a/b?c=d).", "", "http://a/b?c=d", ")."],
    ["a http://b/ c https://d/e, f", "a ", "http://b/", " c ", "https://d/e", ", f"],
    ["javascript:alert(1) http://", "javascript:alert(1) http://"],
  ];
  for (const [text, ...parts] of CASES) {
    it(`are found in ${JSON.stringify(text)}`, () => assertEquals(splitAtLinks(text), parts));
  }
});
