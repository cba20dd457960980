/** The functions of `@std/testing/bdd` that our tests use, over `Deno.test`. See `probe.ts`. */

type Run = () => void | Promise<void>;
type Register = (name: string, run: (t: Deno.TestContext) => Promise<void>, skip: boolean) => void;

/** The contents of a `describe`. */
interface Suite {
  readonly outer?: Suite;
  readonly register: Register;
  readonly before: Run[];
  readonly beforeEach: Run[];
  readonly afterEach: Run[];
  readonly after: Run[];
}

/** Servers started by a file's hooks outlive single tests, so the sanitizers count the whole file. */
const unchecked = { sanitizeOps: false, sanitizeResources: false, sanitizeExit: false };

/** The whole file, whose children are the runtime's tests. */
const file = createSuite((name, fn, ignore) => Deno.test({ name, fn, ignore, ...unchecked }));

/** The innermost open `describe`. */
let current = file;

function createSuite(register: Register, outer?: Suite): Suite {
  const hooks = { before: [], beforeEach: [], afterEach: [], after: [] };
  return outer === undefined ? { register, ...hooks } : { outer, register, ...hooks };
}

/** A suite and its parents, outermost first. */
function lineOf(suite: Suite): Suite[] {
  return suite.outer === undefined ? [suite] : [...lineOf(suite.outer), suite];
}

/** Reads a `describe`, whose tests become its steps. */
function read(name: string, content: () => void, skip: boolean): void {
  const steps: ((t: Deno.TestContext) => Promise<boolean>)[] = [];
  const outer = current;
  const suite = createSuite((name, fn, ignore) => {
    steps.push((t) => t.step({ name, fn, ignore, ...unchecked }));
  }, outer);
  current = suite;
  try {
    content();
  } finally {
    current = outer;
  }
  outer.register(name, async (t) => {
    try {
      for (const run of suite.before) await run();
      for (const step of steps) await step(t);
    } finally {
      for (const run of suite.after) await run();
    }
  }, skip);
}

export function describe(name: string, content: () => void): void {
  read(name, content, false);
}

describe.skip = (name: string, content: () => void): void => read(name, content, true);

export function it(name: string, run: Run): void {
  const line = lineOf(current);
  current.register(name, async () => {
    try {
      for (const { beforeEach } of line) for (const prepare of beforeEach) await prepare();
      await run();
    } finally {
      for (const { afterEach } of line.toReversed()) for (const clean of afterEach) await clean();
    }
  }, false);
}

it.skip = (name: string, _run?: Run): void => current.register(name, async () => {}, true);
it.ignore = it.skip;

export function beforeAll(run: Run): void {
  if (current === file) Deno.test.beforeAll(run);
  else current.before.push(run);
}

export function beforeEach(run: Run): void {
  current.beforeEach.push(run);
}

export function afterEach(run: Run): void {
  current.afterEach.push(run);
}

export function afterAll(run: Run): void {
  if (current === file) Deno.test.afterAll(run);
  else current.after.push(run);
}
