/** A machine without the server's files. */

import { makeFolder } from "./folder.ts";

export interface Machine extends AsyncDisposable {
  /** An empty folder. */
  readonly path: string;
  /** The runtime's cache, for `DENO_DIR`: npm packages and no modules. */
  readonly cache: string;
}

export async function makeMachine(): Promise<Machine> {
  const folder = await makeFolder();
  const info = new Deno.Command(Deno.execPath(), { args: ["info", "--json"], cwd: folder.path });
  const { npmCache } = JSON.parse(new TextDecoder().decode((await info.output()).stdout));
  const cache = `${folder.path}/cache`;
  await Deno.mkdir(cache);
  await Deno.symlink(npmCache, `${cache}/npm`);
  return { ...folder, cache };
}
