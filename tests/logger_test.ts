import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  createLogger,
  createThrottledLogger,
  errorFields,
  LOG_LEVELS,
  type LogLevel,
} from "../lib/logger.ts";

/** The output of a logger that gets one line of every level. */
function write(level: LogLevel): string[] {
  const lines: string[] = [];
  const logger = createLogger({ level, clock: () => 0, write: (line) => lines.push(line) });
  for (const name of LOG_LEVELS) logger[name](`an ${name}`);
  return lines.map((line) => JSON.parse(line).level);
}

describe("createLogger", () => {
  it("writes one JSON object per line: the time, the level, the message, and its fields", () => {
    const lines: string[] = [];
    const clock = () => Date.UTC(2026, 0, 2, 3, 4, 5, 6);
    const logger = createLogger({ level: "info", clock, write: (line) => lines.push(line) });
    logger.info("joined", { room: "a\nb", count: 2, isNew: true, username: undefined });
    assertEquals(lines, [
      '{"time":"2026-01-02T03:04:05.006Z","level":"info","msg":"joined","room":"a\\nb","count":2,"isNew":true}',
    ]);
  });

  it("leaves out lines below its level", () => {
    assertEquals(write("info"), ["info", "warn", "error"]);
    assertEquals(write("warn"), ["warn", "error"]);
    assertEquals(write("error"), ["error"]);
  });

  it("uses the time of day, unless given another clock", () => {
    const lines: string[] = [];
    const before = Date.now();
    createLogger({ level: "info", write: (line) => lines.push(line) }).warn("now");
    const time = Date.parse(JSON.parse(lines[0]!).time);
    assertEquals(before <= time && time <= Date.now(), true);
  });
});

describe("createThrottledLogger", () => {
  const create = () => {
    let time = 0;
    const lines: Record<string, unknown>[] = [];
    const write = (line: string) => lines.push(JSON.parse(line));
    const logger = createLogger({ level: "info", clock: () => 0, write });
    const throttled = createThrottledLogger(logger, () => time);
    const pass = (ms: number) => void (time += ms);
    const read = () => lines.splice(0).map(({ time: _time, ...line }) => line);
    return { throttled, pass, read };
  };

  it("writes a first line at once, and then at most one a second, of all levels together", () => {
    const { throttled, pass, read } = create();
    throttled.error("command failed", { error: "disk is full" });
    assertEquals(read(), [{ level: "error", msg: "command failed", error: "disk is full" }]);
    throttled.warn("another");
    pass(999);
    throttled.error("command failed");
    assertEquals(read(), []);
    pass(1);
    throttled.info("and another");
    throttled.info("and another");
    assertEquals(read(), [{ level: "info", msg: "and another", omitted: 2 }]);
  });

  it("counts the lines left out between two lines", () => {
    const { throttled, pass, read } = create();
    for (let i = 0; i < 25; i++) {
      throttled.error("failed");
      pass(100);
    }
    assertEquals(read().map(({ omitted }) => omitted), [undefined, 9, 9]);
    pass(1000);
    throttled.error("failed");
    pass(1000);
    throttled.error("failed");
    assertEquals(read().map(({ omitted }) => omitted), [4, undefined]);
  });
});

describe("errorFields", () => {
  it("are the name, the message and the stack of an error", () => {
    const { error, stack } = errorFields(new RangeError("too far"));
    assertEquals(error, "RangeError: too far");
    assertStringIncludes(String(stack), "logger_test.ts");
  });

  it("are the text of any other thrown value", () => {
    assertEquals(errorFields("no error"), { error: "no error" });
    assertEquals(errorFields(undefined), { error: "undefined" });
    assertMatch(String(errorFields({}).error), /object/);
  });
});
