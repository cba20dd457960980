/**
 * The results as a picture: deliveries per CPU second of each server, as SVG that needs nothing else.
 *
 * @module
 */

import { short } from "./report.ts";
import { type Results, type Spread, spread, valuesAt } from "./results.ts";
import { type Scenario, type ScenarioName, SCENARIOS } from "./scenarios.ts";
import { SERVERS } from "./servers.ts";

const SHOWN: readonly ScenarioName[] = ["room", "crowd-1000", "pairs", "flood"];

const WIDTH = 900;
const LABEL_WIDTH = 260;
const VALUE_WIDTH = 70;
const PLOT_WIDTH = WIDTH - LABEL_WIDTH - VALUE_WIDTH - 20;
const ROW = 22;
const BAR = 14;
const HEAD = 64;
const GROUP_HEAD = 34;
const FOOT = 30;

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1c2430 }
  .title { font-size: 17px; font-weight: 600 }
  .group { font-weight: 600 }
  .note, .tick { fill: #5b6675; font-size: 12px }
  .paper { fill: #ffffff }
  .grid { stroke: #d9dee5 }
  .bar { fill: #9aa7b8 }
  .own { fill: #2563c9 }
  .spread { stroke: #1c2430; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6eaf0 }
    .note, .tick { fill: #9aa5b4 }
    .paper { fill: #12161c }
    .grid { stroke: #2c343f }
    .bar { fill: #5d6b7d }
    .own { fill: #6ea2ff }
    .spread { stroke: #e6eaf0 }
  }`;

interface Row {
  readonly title: string;
  readonly isOwn: boolean;
  readonly value: Spread;
}

/** Draws the chart; `undefined` if there is nothing to draw. */
export function drawChart({ runs, machine, date }: Results): string | undefined {
  const groups = SHOWN.flatMap((name) => {
    const { title, turns }: Scenario = SCENARIOS[name];
    const rows = turns.flatMap(({ server }): Row[] => {
      const metric = valuesAt(
        runs,
        { scenario: name, server },
        (seen) => seen.deliveriesPerCpuSecond,
      );
      const value = spread(metric.filter((value) => value > 0));
      if (value === undefined) return [];
      return [{ title: SERVERS[server].title, isOwn: server.startsWith("hubbub"), value }];
    });
    rows.sort((a, b) => b.value.median - a.value.median);
    return rows.length === 0 ? [] : [{ title: `${name}: ${title}`, rows }];
  });
  if (groups.length === 0) return undefined;

  const all = groups.flatMap(({ rows }) => rows);
  const low = Math.floor(Math.log10(Math.min(...all.map(({ value }) => value.min))));
  const high = Math.ceil(Math.log10(Math.max(...all.map(({ value }) => value.max))));
  const x = (value: number) => LABEL_WIDTH + (Math.log10(value) - low) / (high - low) * PLOT_WIDTH;
  const height = HEAD + all.length * ROW + groups.length * GROUP_HEAD + FOOT;
  const lines = [
    text(16, 28, "title", "Messages delivered per second of the server's CPU time"),
    text(
      16,
      48,
      "note",
      `Logarithmic scale; more is better. Median and range. ${machine.cpu}, ${date.slice(0, 10)}.`,
    ),
  ];
  for (let power = low; power <= high; power++) {
    const at = x(10 ** power).toFixed(1);
    lines.push(`<path class="grid" d="M${at} ${HEAD}V${height - FOOT}"/>`);
    lines.push(text(Number(at), height - 10, "tick", short(10 ** power), "middle"));
  }
  let y = HEAD;
  for (const { title, rows } of groups) {
    lines.push(text(16, y + 22, "group", title));
    y += GROUP_HEAD;
    for (const { title, isOwn, value } of rows) {
      const width = (x(value.median) - LABEL_WIDTH).toFixed(1);
      const middle = y + ROW / 2;
      lines.push(text(LABEL_WIDTH - 8, middle + 4, "", title, "end"));
      lines.push(
        `<rect class="bar${isOwn ? " own" : ""}" x="${LABEL_WIDTH}" y="${
          middle - BAR / 2
        }" width="${width}" height="${BAR}"/>`,
        `<path class="spread" d="M${x(value.min).toFixed(1)} ${middle}H${
          x(value.max).toFixed(1)
        }"/>`,
        text(Math.max(x(value.max), x(value.median)) + 6, middle + 4, "", short(value.median)),
      );
      y += ROW;
    }
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>Messages delivered per second of the server's CPU time</title>`,
    `<style>${STYLE}</style>`,
    `<rect class="paper" width="${WIDTH}" height="${height}"/>`,
    ...lines,
    "</svg>",
    "",
  ].join("\n");
}

function text(x: number, y: number, kind: string, content: string, anchor?: string): string {
  const escaped = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const as = kind === "" ? "" : ` class="${kind}"`;
  const where = anchor === undefined ? "" : ` text-anchor="${anchor}"`;
  return `<text x="${x.toFixed(1)}" y="${y}"${as}${where}>${escaped}</text>`;
}
