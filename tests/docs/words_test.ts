/** Words that no page and no comment says: each has made readers stumble. */

import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { filesIn, readFile } from "../support/docs.ts";

/** What never reads well, and what does. */
const WORDS: readonly (readonly [wrong: RegExp, better: string])[] = [
  [/\b(is|are|was|were|be) told\b(?! (from|apart))/, "receives, hears, or an active tells"],
  [/\bso (many|few)\b(?! [^.;:]*\bthat\b)/i, "this many, or the number"],
  [/\bat the (least|most)\b/i, "at least, at most"],
  [/\b(let|lets|letting) go\b/i, "disconnected, evicted"],
  [/\bsees? to it\b/i, "the verb of what happens"],
  [/\bputs down\b/i, "notes, writes"],
  [/\bbelongs? into\b/i, "belongs in"],
  [/\b(come|comes|coming) into (this|the|a) room\b/i, "join"],
  [/\bwho(m)? one may\b|\bwhat one may\b|\bas one may\b/i, "people or members as the subject"],
  [/\bconcerns no\b/i, "is about no"],
  [/\bWith whom\b|\bto whom it\b/, "the noun"],
  [/(?:^|[.;:] )(Who|Another who) [^.?!]+\.(?=\s|$)/, "Anyone who, or the noun"],
  [/<{7} |>{7} [0-9a-f]/, "the end of the merge"],
];

/** The sentences of a text, each on one line: without line breaks and the marks of comments. */
function unwrap(text: string): string {
  const paragraphs = text.split(/\n(?:\s|\*|\/\/)*\n|\n(?=\s*[-|#] )/);
  return paragraphs.map((part) => part.replace(/\s*\n\s*(?:\*|\/\/)?\s*/g, " ")).join("\n");
}

/** Each wrong word in a text, with some of what stands around it. */
function faultsIn(text: string): string[] {
  const faults: string[] = [];
  for (const line of unwrap(text).split("\n")) {
    for (const [wrong, better] of WORDS) {
      const found = wrong.exec(line);
      if (found === null) continue;
      const around = line.slice(Math.max(0, found.index - 20), found.index + 60);
      faults.push(`"${around.trim()}". Better: ${better}.`);
    }
  }
  return faults;
}

/** The pages, and the code with its comments and sentences. */
async function pathsToRead(): Promise<string[]> {
  const own = ["README.md", "CONTRIBUTING.md", "bench/README.md", "hub.ts", "main.ts"];
  const docs = await filesIn("docs/", ".md", ".ts");
  const code = await Promise.all(
    ["lib/", "public/", "bench/", "tests/"].map((folder) => filesIn(folder, ".ts", ".js", ".html")),
  );
  return [...own, ...docs, ...code.flat()].filter((path) => path !== "tests/docs/words_test.ts");
}

describe("The pages and the code", () => {
  it("say nothing in words that make readers stumble", async () => {
    const faults: string[] = [];
    for (const path of await pathsToRead()) {
      for (const fault of faultsIn(await readFile(path))) faults.push(`${path}: ${fault}`);
    }
    assertEquals(faults, []);
  });

  it("are looked through as people read them: over the ends of lines", () => {
    assertEquals(faultsIn("/**\n * It holds at the\n * most 3.\n */").length, 1);
    assertEquals(faultsIn("At most 3 are\ntold.").length, 1);
    assertEquals(faultsIn("So many came that we left. Who is there?"), []);
  });
});
