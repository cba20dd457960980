/**
 * Writes log lines: one JSON object a line, on standard output.
 *
 * Callers pass names, addresses, codes and counts; never a message's content and never a token.
 *
 * @module
 */

/** The levels of log lines, the least important first. */
export const LOG_LEVELS = ["info", "warn", "error"] as const;

/** The level of a log line. */
export type LogLevel = typeof LOG_LEVELS[number];

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

/** Makes a logger whose lines hold `time` (RFC 3339, UTC), `level`, `msg` and the given fields. */
export function createLogger(options: LoggerOptions): Logger {
  // deno-lint-ignore no-console
  const { level, clock = Date.now, write = console.log } = options;
  const lowest = LOG_LEVELS.indexOf(level);
  const at = (name: LogLevel) => {
    if (LOG_LEVELS.indexOf(name) < lowest) return () => {};
    return (msg: string, fields?: LogFields) => {
      const time = new Date(clock()).toISOString();
      write(JSON.stringify({ time, level: name, msg, ...fields }));
    };
  };
  return { info: at("info"), warn: at("warn"), error: at("error") };
}

/** How long a throttled logger is silent after a line, in milliseconds. */
const SILENCE_MS = 1000;

/**
 * Makes a logger that writes at most one line a second, of all levels together: for failures that
 * may come with every message. A line says in `omitted` how many were left out since the last one.
 *
 * @param clock the time in milliseconds; it never goes backwards
 */
export function createThrottledLogger(logger: Logger, clock: () => number): Logger {
  let nextAt = -Infinity;
  let omitted = 0;
  const at = (level: LogLevel) => (message: string, fields?: LogFields) => {
    const now = clock();
    if (now < nextAt) {
      omitted++;
      return;
    }
    logger[level](message, omitted > 0 ? { ...fields, omitted } : fields);
    nextAt = now + SILENCE_MS;
    omitted = 0;
  };
  return { info: at("info"), warn: at("warn"), error: at("error") };
}

/** An unexpected error as log fields. */
export function errorFields(error: unknown): LogFields {
  return error instanceof Error
    ? { error: `${error.name}: ${error.message}`, stack: error.stack }
    : { error: String(error) };
}
