import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createLogger, errorFields, LOG_LEVELS, type LogLevel } from "../lib/logger.ts";

/** What a logger of a level writes when every level has something to say. */
function write(level: LogLevel): string[] {
  const lines: string[] = [];
  const logger = createLogger({ level, clock: () => 0, write: (line) => lines.push(line) });
  for (const name of LOG_LEVELS) logger[name](`an ${name}`);
  return lines.map((line) => JSON.parse(line).level);
}

describe("createLogger", () => {
  it("writes one JSON object a line: the time, the level, the message, and what goes with it", () => {
    const lines: string[] = [];
    const clock = () => Date.UTC(2026, 0, 2, 3, 4, 5, 6);
    const logger = createLogger({ level: "info", clock, write: (line) => lines.push(line) });
    logger.info("joined", { room: "a\nb", count: 2, isNew: true, username: undefined });
    assertEquals(lines, [
      '{"time":"2026-01-02T03:04:05.006Z","level":"info","msg":"joined","room":"a\\nb","count":2,"isNew":true}',
    ]);
  });

  it("leaves out what is below its level", () => {
    assertEquals(write("info"), ["info", "warn", "error"]);
    assertEquals(write("warn"), ["warn", "error"]);
    assertEquals(write("error"), ["error"]);
  });

  it("takes the time of the day, unless it is given another clock", () => {
    const lines: string[] = [];
    const before = Date.now();
    createLogger({ level: "info", write: (line) => lines.push(line) }).warn("now");
    const time = Date.parse(JSON.parse(lines[0]!).time);
    assertEquals(before <= time && time <= Date.now(), true);
  });
});

describe("errorFields", () => {
  it("are the name, the message and the stack of an error", () => {
    const { error, stack } = errorFields(new RangeError("too far"));
    assertEquals(error, "RangeError: too far");
    assertStringIncludes(String(stack), "logger_test.ts");
  });

  it("are the text of anything else that is thrown", () => {
    assertEquals(errorFields("no error"), { error: "no error" });
    assertEquals(errorFields(undefined), { error: "undefined" });
    assertMatch(String(errorFields({}).error), /object/);
  });
});
