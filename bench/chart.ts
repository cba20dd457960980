/**
 * The results as a picture: deliveries per CPU second of each server, as one SVG file.
 *
 * @module
 */

import { marks, short } from "./report.ts";
import { measuredAt, type Results, type Spread, spread } from "./results.ts";
import { type Scenario, type ScenarioName, SCENARIOS } from "./scenarios.ts";
import { SERVERS } from "./servers.ts";
import { svg, text, WIDTH } from "./svg.ts";

const SHOWN: readonly ScenarioName[] = ["room", "crowd-1000", "pairs", "flood"];

/** Marks of servers that did not deliver everything. */
const FAULT = /behind|lost|starved|closed/;

const LABEL_WIDTH = 260;
const VALUE_WIDTH = 70;
const PLOT_WIDTH = WIDTH - LABEL_WIDTH - VALUE_WIDTH - 20;
const ROW = 22;
const DOT = 5;
const HEAD = 64;
const GROUP_HEAD = 34;
const FOOT = 30;

interface Row {
  readonly title: string;
  readonly isOwn: boolean;
  /** Whether the server did not deliver everything. */
  readonly isMarked: boolean;
  readonly value: Spread;
}

/** Draws the chart; `undefined` if there is nothing to draw. */
export function drawChart({ runs, machine, date }: Results): string | undefined {
  const groups = SHOWN.flatMap((name) => {
    const { title, behaviour, turns }: Scenario = SCENARIOS[name];
    const rows = turns.flatMap(({ server, variant }): Row[] => {
      if (variant !== undefined) return [];
      const all = [...measuredAt(runs, { scenario: name, server }).values()];
      const value = spread(
        all.map((seen) => seen.deliveriesPerCpuSecond).filter((value) => value > 0),
      );
      if (value === undefined) return [];
      const isMarked = all.some((seen) => marks(seen, behaviour).some((mark) => FAULT.test(mark)));
      const isOwn = server.startsWith("hubbub");
      return [{ title: SERVERS[server].title, isOwn, isMarked, value }];
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
  const note =
    "Logarithmic; more is better. Median and range. * members fell behind, starved, were cut off. " +
    `${machine.cpu}, ${date.slice(0, 10)}.`;
  const lines: string[] = [];
  for (let power = low; power <= high; power++) {
    const at = x(10 ** power).toFixed(1);
    lines.push(`<path class="grid" d="M${at} ${HEAD}V${height - FOOT}"/>`);
    lines.push(text(Number(at), height - 10, "tick", tick(power), "middle"));
  }
  let y = HEAD;
  for (const { title, rows } of groups) {
    lines.push(text(16, y + 22, "group", title));
    y += GROUP_HEAD;
    for (const { title, isOwn, isMarked, value } of rows) {
      const middle = y + ROW / 2;
      const [min, median, max] = [value.min, value.median, value.max].map(x) as [
        number,
        number,
        number,
      ];
      const kind = isOwn ? "dot own" : "dot";
      lines.push(
        text(LABEL_WIDTH - 8, middle + 4, "", title, "end"),
        `<path class="grid" d="M${LABEL_WIDTH} ${middle}H${median.toFixed(1)}"/>`,
        `<path class="spread ${kind}" d="M${min.toFixed(1)} ${middle}H${max.toFixed(1)}"/>`,
        `<circle class="${kind}" cx="${median.toFixed(1)}" cy="${middle}" r="${DOT}"/>`,
        text(
          Math.max(max, median + DOT) + 6,
          middle + 4,
          "",
          short(value.median) + (isMarked ? " *" : ""),
        ),
      );
      y += ROW;
    }
  }
  const title = "Messages delivered per second of the server's CPU time";
  return svg({ title, note, height, lines });
}

/** A power of ten, in short. */
function tick(power: number): string {
  return `${10 ** (power % 3)}${["", "k", "M", "G"][Math.floor(power / 3)]}`;
}
