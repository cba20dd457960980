/**
 * The parts of a picture: one SVG file without other files, in light and dark.
 *
 * @module
 */

/** Width of every picture. */
export const WIDTH = 900;

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1c2430 }
  .title { font-size: 17px; font-weight: 600 }
  .group { font-weight: 600 }
  .note, .tick { fill: #5b6675; font-size: 12px }
  .paper { fill: #ffffff }
  .grid { stroke: #d9dee5 }
  .dot { fill: #6b788a; stroke: #6b788a }
  .own { fill: #2563c9; stroke: #2563c9 }
  .spread { stroke-width: 3; stroke-linecap: round }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6eaf0 }
    .note, .tick { fill: #9aa5b4 }
    .paper { fill: #12161c }
    .grid { stroke: #2c343f }
    .dot { fill: #8c99aa; stroke: #8c99aa }
    .own { fill: #6ea2ff; stroke: #6ea2ff }
  }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round }`;

/** The content of a picture. */
export interface Picture {
  readonly title: string;
  /** A line under the title. */
  readonly note: string;
  readonly height: number;
  /** The elements below. */
  readonly lines: readonly string[];
}

/** A whole picture. */
export function svg({ title, note, height, lines }: Picture): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>${escape(title)}</title>`,
    `<style>${STYLE}</style>`,
    `<rect class="paper" width="${WIDTH}" height="${height}"/>`,
    text(16, 28, "title", title),
    text(16, 48, "note", note),
    ...lines,
    "</svg>",
    "",
  ].join("\n");
}

/** One line of text. `kind` is a class of the style, or empty. */
export function text(x: number, y: number, kind: string, content: string, anchor?: string): string {
  const as = kind === "" ? "" : ` class="${kind}"`;
  const where = anchor === undefined ? "" : ` text-anchor="${anchor}"`;
  return `<text x="${x.toFixed(1)}" y="${y}"${as}${where}>${escape(content)}</text>`;
}

function escape(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
