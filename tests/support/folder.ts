/** A folder for one test. */

export interface Folder extends AsyncDisposable {
  readonly path: string;
}

/** Makes a new folder. Disposing of it removes it with its contents. */
export async function makeFolder(): Promise<Folder> {
  const path = await Deno.makeTempDir();
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}
