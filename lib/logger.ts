/**
 * Writes log lines: one JSON object a line, on standard output.
 *
 * Callers pass names, addresses, codes and counts; never a message's content and never a token.
 *
 * @module
 */

/** The level of a log line. */
export type LogLevel = "info" | "warn" | "error";

/** The levels of log lines, the least important first. */
export const LOG_LEVELS: readonly LogLevel[] = ["info", "warn", "error"];

/** Fields of a line, besides its time, level and message. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** Writes log lines. */
export type Logger = Readonly<Record<LogLevel, (message: string, fields?: LogFields) => void>>;

/** What {@linkcode createLogger} needs. */
export interface LoggerOptions {
  /** The logger leaves out lines below this level. */
  readonly level: LogLevel;
  /** The time in milliseconds. @default Date.now */
  readonly clock?: () => number;
  /** Takes one finished line. @default console.log */
  readonly write?: (line: string) => void;
}

/** Maximum length of a text in a line. */
const MAX_TEXT_LENGTH = 200;

/** Maximum length of a stack. */
const MAX_STACK_LENGTH = 4000;

/** Characters that a terminal may take for a line break, a command, or a change of direction. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** Cuts a long text in a line: some are written by clients. */
function cut(field: string, value: unknown): unknown {
  if (typeof value !== "string") return value;
  const longest = field === "stack" ? MAX_STACK_LENGTH : MAX_TEXT_LENGTH;
  return value.length > longest ? `${value.slice(0, longest)}…` : value;
}

/** A character as an escape of JSON, such as `\u001b`. */
function escape(character: string): string {
  return character.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
    .join("");
}

/** Makes a logger whose lines hold `time` (RFC 3339, UTC), `level`, `msg` and the given fields. */
export function createLogger(options: LoggerOptions): Logger {
  // deno-lint-ignore no-console
  const { level, clock = Date.now, write = console.log } = options;
  const lowest = LOG_LEVELS.indexOf(level);
  const at = (name: LogLevel) => {
    if (LOG_LEVELS.indexOf(name) < lowest) return () => {};
    return (msg: string, fields?: LogFields) => {
      const time = new Date(clock()).toISOString();
      const line = JSON.stringify({ time, level: name, msg, ...fields }, cut);
      write(line.replace(UNPRINTABLE, escape));
    };
  };
  return { info: at("info"), warn: at("warn"), error: at("error") };
}

/** After its burst, a throttled logger writes one line in this time, in milliseconds. */
const LINE_MS = 1000;

/** A logger that leaves lines out. */
export interface ThrottledLogger extends Logger {
  /** Writes the last line left out, and how many came before it. Call it once a second. */
  readonly sweep: () => void;
}

/**
 * Makes a logger for lines that every message may cause: after a burst it writes at most one line a
 * second, of all levels together. The field `omitted` of a line counts those left out before it.
 *
 * @param clock the time in milliseconds; it never goes backwards
 * @param burst how many lines it writes at once
 */
export function createThrottledLogger(
  logger: Logger,
  clock: () => number,
  burst = 1,
): ThrottledLogger {
  /** When the whole burst is allowed again, in milliseconds. */
  let fullAt = -Infinity;
  let omitted = 0;
  let last: { level: LogLevel; message: string; fields: LogFields | undefined } | undefined;
  const mayWrite = () => clock() >= fullAt - (burst - 1) * LINE_MS;
  const write = (level: LogLevel, message: string, fields: LogFields | undefined) => {
    fullAt = Math.max(fullAt, clock()) + LINE_MS;
    logger[level](message, omitted > 0 ? { ...fields, omitted } : fields);
    omitted = 0;
    last = undefined;
  };
  const at = (level: LogLevel) => (message: string, fields?: LogFields) => {
    if (mayWrite()) return write(level, message, fields);
    omitted++;
    last = { level, message, fields };
  };
  const sweep = () => {
    if (last === undefined || !mayWrite()) return;
    omitted--;
    write(last.level, last.message, last.fields);
  };
  return { info: at("info"), warn: at("warn"), error: at("error"), sweep };
}

/** An unexpected error as log fields. */
export function errorFields(error: unknown): LogFields {
  return error instanceof Error
    ? { error: `${error.name}: ${error.message}`, stack: error.stack }
    : { error: String(error) };
}
