/** Where the browser for the page's tests is on this machine. */

const NAMES = ["chromium", "chromium-browser", "google-chrome"];
const PLACES = ["/usr/bin/chromium"];

/** What a person should read when there is none. */
export const NO_CHROMIUM =
  "Skipped: Chromium is not installed. Install it with: apt-get install -y chromium";

/** Flags that make Chromium start anywhere, show nothing, and talk to nobody but our server. */
export const CHROMIUM_ARGS = [
  "--no-sandbox",
  "--headless=new",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/**
 * Finds Chromium: the environment's `CHROMIUM`, else the usual names in `PATH`, else the usual place.
 *
 * @returns its absolute path, or `undefined` when it is not installed
 */
export function findChromium(): string | undefined {
  const chosen = Deno.env.get("CHROMIUM");
  if (chosen) return isFile(chosen) ? chosen : undefined;
  const folders = (Deno.env.get("PATH") ?? "").split(Deno.build.os === "windows" ? ";" : ":");
  const inPath = folders.flatMap((folder) => NAMES.map((name) => `${folder}/${name}`));
  return [...inPath, ...PLACES].find(isFile);
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
