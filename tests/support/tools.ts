/** Programs for some tests, which a machine may lack. */

import { it } from "@std/testing/bdd";

/** Debian's packages that have another name than the program. */
const PACKAGES: Readonly<Record<string, string>> = { "systemd-analyze": "systemd" };

async function isInstalled(program: string): Promise<boolean> {
  try {
    const command = new Deno.Command(program, { args: ["--version"], stdout: "null" });
    return (await command.output()).success;
  } catch {
    return false;
  }
}

/**
 * Declares tests that need programs, by the names of their packages. If one is missing they are
 * skipped visibly, or fail with `REQUIRE_ALL=1`.
 *
 * @param subject the subject of the tests
 */
export async function itWith(subject: string, ...programs: string[]): Promise<typeof it> {
  const found = await Promise.all(programs.map(isInstalled));
  if (found.every((isThere) => isThere)) return it;
  const names = programs.map((program) => PACKAGES[program] ?? program).join(" ");
  const sentence =
    `Skipped: ${subject} needs ${names}. Install them with: apt-get install ${names}`;
  // deno-lint-ignore no-console
  console.log(sentence);
  if (Deno.env.get("REQUIRE_ALL") === "1") {
    it(`${subject} has ${names}`, () => {
      throw new Error(sentence);
    });
  }
  return it.skip as typeof it;
}
