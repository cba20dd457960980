/** The functions of `@std/testing/bdd` that our tests use, over `node:test`. See `probe.ts`. */

export { after as afterAll, afterEach, before as beforeAll, beforeEach, describe } from "node:test";
import { it as nodeIt } from "node:test";

type Run = () => void | Promise<void>;

export function it(name: string, run: Run): void {
  nodeIt(name, async () => await run());
}

it.skip = (name: string, _run?: Run): void => {
  nodeIt.skip(name, () => {});
};

it.ignore = it.skip;
