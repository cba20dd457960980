/** A folder for one test. */

export interface Folder extends AsyncDisposable {
  readonly path: string;
}

/** Makes a new folder, which is removed at the end with all that is in it. */
export async function makeFolder(): Promise<Folder> {
  const path = await Deno.makeTempDir();
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}
