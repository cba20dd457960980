/** The pages of the documentation. */

import { assert } from "@std/assert";

const ROOT = new URL("../../", import.meta.url);

/** A page, and where it stands in the folder of the server. */
export interface Page {
  readonly path: string;
  readonly text: string;
}

/** Reads a page of `docs/`. */
export async function readPage(name: string): Promise<string> {
  return await readFile(`docs/${name}`);
}

/** Reads a file of the server's folder. */
export async function readFile(path: string): Promise<string> {
  return await Deno.readTextFile(new URL(path, ROOT));
}

/** The paths of the files in a folder, and in the folders in it, that end in one of these ways. */
export async function filesIn(folder: string, ...ends: string[]): Promise<string[]> {
  const paths: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(new URL(folder, ROOT))) {
    if (isDirectory) paths.push(...await filesIn(`${folder}${name}/`, ...ends));
    else if (ends.some((end) => name.endsWith(end))) paths.push(`${folder}${name}`);
  }
  return paths.sort();
}

/** Reads every page that people read. */
export async function readPages(): Promise<Page[]> {
  const paths = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "bench/README.md"];
  paths.push(...await filesIn("docs/", ".md"));
  return await Promise.all(paths.map(async (path) => ({ path, text: await readFile(path) })));
}

/** The code blocks of a page, or of a part of it, in one language. */
export function blocksIn(page: string, language: string): string[] {
  const blocks = page.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, "gm"));
  return [...blocks].map(([, block]) => block!);
}

/** A page without its code blocks. */
export function withoutBlocks(page: string): string {
  return page.replace(/^ *```[^]*?^ *```$/gm, "");
}

/** The cells of the table whose first column has this title, row by row, without the title row. */
export function tableIn(page: string, title: string): string[][] {
  const [, table] = new RegExp(`^\\| ${title} +\\|.*\n\\|[-| ]+\n((?:\\|.*\n)+)`, "m").exec(page) ??
    [];
  assert(table, `There is no table of "${title}".`);
  const lines = table.trimEnd().split("\n");
  return lines.map((line) => line.slice(1, -1).split("|").map((cell) => cell.trim()));
}

/** The texts that are set as code in a line, or in a page without blocks. */
export function codesIn(text: string): string[] {
  return [...text.matchAll(/`([^`\n]+)`/g)].map(([, code]) => code!);
}
