/** The links of the pages, and what a page may not grow to. */

import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  codesIn,
  filesIn,
  type Page,
  readFile,
  readPages,
  withoutBlocks,
} from "../support/docs.ts";

const ROOT = new URL("../../", import.meta.url);

/** The addresses that a page links to or shows, but for those of other sites. */
function linksIn({ text }: Page): string[] {
  const prose = withoutBlocks(text).replace(/`[^`\n]+`/g, "code");
  const links = prose.matchAll(/\]\(\s*([^)\s]+)\s*\)|\b(?:src|srcset|href)="([^"]+)"/g);
  return [...links].map(([, link, source]) => link ?? source!)
    .filter((link) => !/^[a-z][a-z\d+.-]*:/i.test(link));
}

/** The anchors of a page's headings, as the sites that show it make them. */
function anchorsIn(text: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading] of withoutBlocks(text).matchAll(/^#{1,6} (.*)$/gm)) {
    const plain = heading!.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
    const anchor = plain.replace(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, "").replaceAll(" ", "-");
    let free = anchor;
    for (let i = 1; anchors.has(free); i++) free = `${anchor}-${i}`;
    anchors.add(free);
  }
  return anchors;
}

/** Why a link of a page leads nowhere; `undefined` if it leads somewhere. */
async function faultOf(path: string, link: string): Promise<string | undefined> {
  const target = new URL(link, new URL(path, ROOT));
  if (!target.href.startsWith(ROOT.href)) return "leaves the folder";
  const file = decodeURIComponent(target.pathname.slice(ROOT.pathname.length));
  const stat = await Deno.stat(new URL(file, ROOT)).catch(() => undefined);
  if (stat === undefined) return "no such file";
  if (target.hash === "" || !file.endsWith(".md")) return undefined;
  const anchors = anchorsIn(await readFile(file));
  return anchors.has(decodeURIComponent(target.hash.slice(1))) ? undefined : "no such heading";
}

const pages = await readPages();

describe("The pages", () => {
  it("link to files and headings that are there", async () => {
    const faults: string[] = [];
    let count = 0;
    for (const page of pages) {
      for (const link of linksIn(page)) {
        count++;
        const fault = await faultOf(page.path, link);
        if (fault !== undefined) faults.push(`${page.path}: ${link}: ${fault}`);
      }
    }
    assertEquals(faults, []);
    assert(count > 100, `Only ${count} links were found.`);
  });

  it("name files and folders that are there", async () => {
    const faults: string[] = [];
    for (const { path, text } of pages) {
      // A name of an older release may be gone, and a reader of the other page makes files.
      if (path === "CHANGELOG.md" || path === "docs/extending.md") continue;
      for (const [, named] of withoutBlocks(text).matchAll(/`([^`\n]+)`/g)) {
        if (!/^(lib|public|tests|docs|bench|\.ci)\/[\w./-]*$/.test(named!)) continue;
        const stat = await Deno.stat(new URL(named!, ROOT)).catch(() => undefined);
        if (stat === undefined) faults.push(`${path}: ${named}`);
      }
    }
    assertEquals(faults, []);
  });

  it("say of every folder of lib/ and of every script of public/ what it is", async () => {
    const named = (...paths: string[]) =>
      pages.filter(({ path }) => paths.includes(path))
        .flatMap(({ text }) => codesIn(withoutBlocks(text)));
    const architecture = named("docs/architecture.md");
    const folders = new Set(
      (await filesIn("lib/", ".ts")).map((file) => file.slice(0, file.lastIndexOf("/") + 1)),
    );
    const isNamed = (folder: string) =>
      architecture.some((code) => code === folder || `lib/engine/${code}` === folder);
    assertEquals([...folders].filter((folder) => folder !== "lib/" && !isNamed(folder)), []);
    const page = named("docs/page.md", "docs/client.md");
    const scripts = await filesIn("public/", ".js");
    const names = scripts.map((file) => file.slice(file.lastIndexOf("/") + 1));
    assertEquals(names.filter((name) => !page.includes(name)), []);
  });

  it("can all be reached from the README", () => {
    const reached = new Set(["README.md"]);
    for (const path of reached) {
      const page = pages.find((page) => page.path === path);
      for (const link of page === undefined ? [] : linksIn(page)) {
        reached.add(new URL(link, new URL(path, ROOT)).pathname.slice(ROOT.pathname.length));
      }
    }
    const hidden = pages.map(({ path }) => path).filter((path) => !reached.has(path));
    assertEquals(hidden.filter((path) => path !== "CHANGELOG.md"), []);
  });
});

describe("README.md", () => {
  it("has at most 100 lines", async () => {
    const lines = (await readFile("README.md")).trimEnd().split("\n");
    assert(lines.length <= 100, `It has ${lines.length} lines.`);
  });
});
