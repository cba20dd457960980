/** Links and code in the text of a message. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { hrefOf, splitAtLinks } from "../public/page/links.js";
import { readText } from "../public/page/text.js";

const U = "http://a.example/x";

function linksOf(text: string): string[] {
  return splitAtLinks(text).filter((_, index) => index % 2 === 1);
}

describe("A link", () => {
  const CASES: [what: string, text: string, links: string[]][] = [
    ["a bracket around it", `(${U})`, [U]],
    ["a bracket of its own", `${U}_(y)`, [`${U}_(y)`]],
    ["both", `(see ${U}_(y))`, [`${U}_(y)`]],
    ["square brackets of its own", `${U}?f[y]`, [`${U}?f[y]`]],
    ["square brackets around it", `[${U}]`, [U]],
    ["braces", `{${U}/{y}}`, [`${U}/{y}`]],
    ["an open bracket at its end", `${U}((`, [U]],
    ["a full stop", `see ${U}.`, [U]],
    ["an ellipsis of three", `${U}...`, [U]],
    ["an ellipsis", `${U}…`, [U]],
    ["English quotes", `“${U}”, he said`, [U]],
    ["single quotes", `‘${U}’ '${U}'`, [U, U]],
    ["French quotes", `«${U}» ‹${U}›`, [U, U]],
    ["German quotes", `„${U}“ »${U}« ‚${U}‘`, [U, U, U]],
    ["plain quotes", `"${U}"`, [U]],
    ["Japanese quotes", `「${U}」を参照『${U}』`, [U, U]],
    ["backticks", `\`${U}\``, [U]],
    ["Chinese punctuation", `看${U}，谢谢。${U}、${U}！`, [U, U, U]],
    ["Chinese brackets", `（${U}）【${U}】《${U}》`, [U, U, U]],
    ["half-width Japanese punctuation", `${U}｡${U}｣`, [U, U]],
    ["Arabic punctuation", `${U}؟ ${U}، ${U}؛ ${U}۔`, [U, U, U, U]],
    ["an Arabic comma inside", `${U}،_y`, [`${U}،_y`]],
    ["a danda", `${U}। ${U}॥`, [U, U]],
    ["Armenian and Ethiopic marks", `${U}։ ${U}።`, [U, U]],
    ["a dash", `${U}—it is there`, [U]],
    ["a dash inside", `${U}/1914–1918`, [`${U}/1914–1918`]],
    ["a zero-width space", `${U}\u200bnext`, [U]],
    ["marks of direction", `\u2068${U}\u2069 \u200e${U}\u200f`, [U, U]],
    ["a no-break space", `${U}\u00a0next ${U}\u3000next`, [U, U]],
    ["a joiner inside", `${U}/می\u200cخواهم`, [`${U}/می\u200cخواهم`]],
    ["underscores around it", `_${U}_`, [U]],
    ["an underscore of its own", `${U}_`, [`${U}_`]],
    ["asterisks around it", `**${U}**`, [U]],
    ["tildes around it", `~~${U}~~`, [U]],
    ["an IPv6 address", "http://[::1] http://[::1]:8080/a.", [
      "http://[::1]",
      "http://[::1]:8080/a",
    ]],
    ["a port", "http://localhost:8080, http://a:99999", ["http://localhost:8080"]],
    ["a name in another script", "http://例え.jp/日本語 x", ["http://例え.jp/日本語"]],
    ["an emoji inside", `${U}/😀, `, [`${U}/😀`]],
    ["a query and a fragment", `${U}?a=b&c=d#e!`, [`${U}?a=b&c=d#e`]],
    ["capitals", "HTTPS://A.EXAMPLE/X", ["HTTPS://A.EXAMPLE/X"]],
    ["www", "www.example.org. (www.example.org/a_(b))", [
      "www.example.org",
      "www.example.org/a_(b)",
    ]],
    ["www that is none", "www. www.a www..b a@www.b.example x.www.b.example awww.b.example", []],
    ["mailto", "mailto:ada@a.example, mailto: mailto:ada", ["mailto:ada@a.example"]],
    ["a bare mail address", "ada@a.example", []],
    ["other schemes", "javascript:alert(1) data:text/html,x file:///x ftp://a.example", []],
    ["nothing behind the scheme", "http:// https://. http://)", []],
    ["a word before it", "xhttp://a.example", []],
    ["a tag around it", `<${U}>`, [U]],
    ["a Markdown link", `[here](${U})`, [U]],
  ];
  for (const [what, text, links] of CASES) {
    it(`is found with ${what}`, () => {
      assertEquals(linksOf(text), links);
      assertEquals(splitAtLinks(text).join(""), text);
    });
  }

  it("leads to https if it begins with www", () => {
    assertEquals(hrefOf("www.example.org"), "https://www.example.org");
    assertEquals(hrefOf("WWW.example.org"), "https://WWW.example.org");
    assertEquals(hrefOf(U), U);
    assertEquals(hrefOf("mailto:a@b"), "mailto:a@b");
  });
});

describe("Code", () => {
  const read = (text: string) =>
    readText(text).map(({ type, text }) => type === "text" ? text : [type, text]);
  const CASES: [what: string, text: string, ...runs: (string | string[])[]][] = [
    ["inline", "a `b` c", "a ", ["code", "b"], " c"],
    ["several", "`a` and `b`", ["code", "a"], " and ", ["code", "b"]],
    ["with backticks in it", "``a`b``", ["code", "a`b"]],
    ["with a backtick at its edge", "`` ` ``", ["code", "`"]],
    ["with a link in it", `\`${U}\` ${U}`, ["code", U], " ", ["link", U]],
    ["that is not closed", "it`s", "it`s"],
    ["that is not closed in its line", "it`s\nher`s", "it`s\nher`s"],
    ["with nothing in it", "`` ` `", "`` ` `"],
    ["as a block", "a\n```\nb\n  c\n```\nd", "a", ["block", "b\n  c"], "d"],
    ["with a language", "```ts\nlet a = `b`;\n```", ["block", "let a = `b`;"]],
    ["to the end of the text", "```\na\n\nb", ["block", "a\n\nb"]],
    ["with a link in a block", `\`\`\`\n${U}\n\`\`\``, ["block", U]],
    ["with a fence in it", "````\n```\na\n```\n````", ["block", "```\na\n```"]],
    ["between three backticks in a line", "```a```", ["code", "a"]],
    ["as an empty block", "```\n\n```", "```\n\n```"],
    ["before and after blocks", "```\na\n```\n```\nb\n```", ["block", "a"], ["block", "b"]],
    ["after what looks like a fence", "```not a word```\n`x`", ["code", "not a word"], "\n", [
      "code",
      "x",
    ]],
  ];
  for (const [what, text, ...runs] of CASES) {
    it(`is found ${what}`, () => assertEquals(read(text), runs));
  }
});

describe("A text of 4 kB", () => {
  const PARTS = [
    ...["(", ")", "[", "]", "{", "}", "()", "[]", "<", ">", '"', "'", "`", "``", "` "],
    ...["“", "”", "「", "」", "（", "）", "…", "—", "_", "*", "~", "\u200b", "\u0301", "😀"],
    ...["http://", "http://[", "http://[ ", "www.", "www.a.", "mailto:", "mailto:@", "`a", "```\n"],
    ...["```\na\n", "```x\n```\n", "`\n``\n"],
  ];
  const read = (text: string) => {
    const times = Array.from({ length: 5 }, () => {
      const start = performance.now();
      readText(text);
      return performance.now() - start;
    });
    return Math.min(...times);
  };

  it("is read in time proportional to its length, whatever it contains", () => {
    for (const head of ["", "http://a/", "(http://a/"]) {
      for (const part of PARTS) {
        const make = (length: number) => head + part.repeat(length / part.length);
        // Quadratic time would be 256 times as long. A busy machine gets more than one try.
        const growths = [];
        do {
          const short = Math.max(0.05, read(make(4096)));
          growths.push(read(make(16 * 4096)) / short);
        } while (growths.at(-1)! >= 80 && growths.length < 5);
        assert(growths.at(-1)! < 80, `${JSON.stringify(part)}: ${growths}`);
      }
    }
  });
});
