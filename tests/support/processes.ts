/** The processes started by a test, and their children. */

/** The ids of processes with a text in their environment. Linux only. */
export function processesWith(text: string): number[] {
  if (Deno.build.os !== "linux") return [];
  const ids = [...Deno.readDirSync("/proc")].map(({ name }) => Number(name)).filter(Boolean);
  return ids.filter((id) => {
    try {
      return Deno.readTextFileSync(`/proc/${id}/environ`).includes(text);
    } catch {
      return false;
    }
  });
}
