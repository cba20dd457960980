/** A small disk, which a test can fill. */

/** The reason for skipping a test of a full disk, and the remedy. */
export const NO_TMPFS =
  "The test of a full disk is skipped. It mounts a small disk: run it as root.";

/** Mounts a disk over a folder. False if that is not allowed. */
export async function mount(folder: string, size = "2m"): Promise<boolean> {
  return await run("mount", "-t", "tmpfs", "-o", `size=${size},mode=777`, "tmpfs", folder);
}

/** Unmounts the disk from a folder, even with open files. */
export async function unmount(folder: string): Promise<void> {
  await run("umount", "-l", folder);
}

async function run(program: string, ...args: string[]): Promise<boolean> {
  try {
    return (await new Deno.Command(program, { args }).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function canMount(): Promise<boolean> {
  const folder = await Deno.makeTempDir();
  const isMounted = await mount(folder);
  if (isMounted) await unmount(folder);
  await Deno.remove(folder);
  return isMounted;
}

/** Whether a disk may be mounted. */
export const hasDisks = await canMount();
