/**
 * A load as a picture: throughput and latency, second by second.
 *
 * @module
 */

import type { Second } from "./ledger.ts";
import { short } from "../report.ts";
import { svg, text, WIDTH } from "../svg.ts";

const LEFT = 80;
const RIGHT = 150;
const HEAD = 64;
const PANEL = 160;
const GAP = 48;
const FOOT = 34;
const PLOT_WIDTH = WIDTH - LEFT - RIGHT;

/** One line of a panel. */
interface Series {
  readonly title: string;
  readonly isMain: boolean;
  readonly values: readonly number[];
}

interface Panel {
  readonly title: string;
  readonly top: number;
  readonly series: readonly Series[];
}

/** Draws the seconds of a load. */
export function drawLoad(note: string, seconds: readonly Second[]): string {
  const quantile = (share: number) => seconds.map(({ latency }) => latency.quantile(share) / 1000);
  const panels: Panel[] = [
    {
      title: "Messages a second",
      top: HEAD + GAP / 2,
      series: [
        { title: "delivered", isMain: true, values: seconds.map((one) => one.deliveries) },
        { title: "stored", isMain: false, values: seconds.map((one) => one.stored) },
      ],
    },
    {
      title: "Latency in milliseconds",
      top: HEAD + PANEL + 1.5 * GAP,
      series: [
        { title: "99 of 100", isMain: true, values: quantile(0.99) },
        { title: "half", isMain: false, values: quantile(0.5) },
      ],
    },
  ];
  const height = HEAD + 2 * (PANEL + GAP) + FOOT - GAP / 2;
  const lines = panels.flatMap((panel) => drawPanel(panel));
  lines.push(text(LEFT, height - 10, "tick", "0 s", "middle"));
  lines.push(text(LEFT + PLOT_WIDTH, height - 10, "tick", `${seconds.length} s`, "middle"));
  return svg({ title: "A load, second by second", note, height, lines });
}

function drawPanel({ title, top, series }: Panel): string[] {
  const highest = Math.max(...series.flatMap(({ values }) => values), 0);
  const max = highest > 0 ? roundUp(highest) : 1;
  const y = (value: number) => top + PANEL * (1 - value / max);
  const lines = [text(16, top - 10, "group", title)];
  for (const value of [0, max / 2, max]) {
    lines.push(`<path class="grid" d="M${LEFT} ${y(value).toFixed(1)}h${PLOT_WIDTH}"/>`);
    lines.push(text(LEFT - 8, Math.round(y(value)) + 4, "tick", plain(value), "end"));
  }
  for (const { title, isMain, values } of series) {
    // The middle of each second.
    const x = (index: number) => LEFT + PLOT_WIDTH * (index + 0.5) / values.length;
    const points = values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`);
    const kind = isMain ? "dot own line" : "dot line";
    lines.push(`<polyline class="${kind}" points="${points.join(" ")}"/>`);
    const last = Math.round(top + (isMain ? 12 : 30));
    lines.push(`<path class="${kind}" d="M${LEFT + PLOT_WIDTH + 14} ${last - 4}h18"/>`);
    lines.push(text(LEFT + PLOT_WIDTH + 38, last, "", title));
  }
  return lines;
}

/** The next number up that is easy to read. */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 4, 6, 8].find((step) => step * power >= value) ?? 10);
}

function plain(value: number): string {
  return value >= 10_000 ? short(value) : String(Number(value.toPrecision(3)));
}
