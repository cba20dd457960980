/** The pages of the documentation. */

/** Reads a page of `docs/`. */
export async function readPage(name: string): Promise<string> {
  return await Deno.readTextFile(new URL(`../../docs/${name}`, import.meta.url));
}

/** The code blocks of a page, or of a part of it, in one language. */
export function blocksIn(page: string, language: string): string[] {
  const blocks = page.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, "gm"));
  return [...blocks].map(([, block]) => block!);
}
