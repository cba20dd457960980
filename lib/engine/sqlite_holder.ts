/**
 * Finds the program that has locked a SQLite file, so that the operator can stop it.
 *
 * @module
 */

/** The locks of all programs. Only Linux has this file (proc(5)). */
const LOCKS = "/proc/locks";

/** Maximum characters of a program's command line in a sentence. */
const MAX_COMMAND_LENGTH = 100;

/** The files that may be locked: the database, the index of its `-wal`, and Hubbub's own lock. */
const SUFFIXES = ["", "-shm", "-lock"] as const;

/**
 * Names another program that has locked a database, as `process PID (COMMAND)`.
 *
 * @param path the file of the database
 * @returns `undefined` if no program is found: always on systems other than Linux, and without the
 *   runtime's permission to read the locks
 */
export function findHolder(path: string): string | undefined {
  try {
    const permission = { name: "read", path: LOCKS } as const;
    if (Deno.permissions.querySync(permission).state !== "granted") return undefined;
    const files = SUFFIXES.flatMap((suffix) => identify(`${path}${suffix}`));
    const locks = readLocks().filter(({ pid, file }) => pid !== Deno.pid && files.includes(file));
    const holder = locks.find(({ isWriter }) => isWriter) ?? locks[0];
    return holder && `process ${holder.pid} (${readCommand(holder.pid)})`;
  } catch {
    return undefined;
  }
}

/** A lock of a process. */
interface Lock {
  readonly pid: number;
  /** Device and inode. */
  readonly file: string;
  /** Whether it keeps others from reading. */
  readonly isWriter: boolean;
}

/** Reads all locks, from lines such as `1: POSIX  ADVISORY  WRITE 4711 fe:01:131 0 EOF`. */
function readLocks(): Lock[] {
  const lines = Deno.readTextFileSync(LOCKS)
    .matchAll(/^\d+: \w+ +\w+ +(READ|WRITE) (\d+) (\w+:\w+:\d+) /gm);
  return [...lines].map(([, kind, pid, file]) => ({
    pid: Number(pid),
    file: file!,
    isWriter: kind === "WRITE",
  }));
}

/**
 * The name of a file in the list of locks: the device in two parts, and the inode. Empty if the file
 * is missing.
 */
function identify(path: string): string[] {
  try {
    const { dev, ino } = Deno.statSync(path);
    const part = (number: number) => number.toString(16).padStart(2, "0");
    // Splits the device as makedev(3) composes it.
    const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
    return [`${part((dev >>> 8) & 0xfff)}:${part(minor)}:${ino}`];
  } catch {
    return [];
  }
}

/** The command line of a process, in one line. */
function readCommand(pid: number): string {
  const command = Deno.readTextFileSync(`/proc/${pid}/cmdline`).replaceAll(/\p{Cc}+/gu, " ").trim();
  return command.slice(0, MAX_COMMAND_LENGTH);
}
