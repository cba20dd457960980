/**
 * CPU times and memory of processes from `/proc`, and the cores that they may use.
 *
 * Only Linux has `/proc`: on other systems CPU times and sizes are 0.
 *
 * @module
 */

function read(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}

/** CPU time of the calling thread, in nanoseconds. */
export function threadCpuNs(): number {
  return firstNumber(read("/proc/thread-self/schedstat"));
}

/** CPU time of each thread of a process, in nanoseconds, by thread. */
export type CpuTimes = ReadonlyMap<string, number>;

/** The CPU times of a process's threads so far. */
export function cpuTimes(pid: number): CpuTimes {
  const times = new Map<string, number>();
  try {
    for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
      times.set(name, firstNumber(read(`/proc/${pid}/task/${name}/schedstat`)));
    }
  } catch {
    // The process has ended.
  }
  return times;
}

/** CPU time of a process between two moments, in seconds, without threads that have ended. */
export function cpuSecondsBetween(begin: CpuTimes, end: CpuTimes): number {
  let ns = 0;
  for (const [thread, time] of end) ns += time - (begin.get(thread) ?? 0);
  return ns / 1e9;
}

/** The resident memory of a process in KB: now (`VmRSS`), or its maximum (`VmHWM`). */
export function memoryKb(pid: number, field: "VmRSS" | "VmHWM" = "VmRSS"): number {
  const line = read(`/proc/${pid}/status`).split("\n").find((line) => line.startsWith(field));
  return firstNumber(line?.replace(/\D+/, "") ?? "");
}

function firstNumber(text: string): number {
  return Number(text.trim().split(/\s/)[0]) || 0;
}

/** The cores of each process: the server has one core, the load has the others. */
export interface Pinning {
  readonly isPinned: boolean;
  /** Threads that the load may use. */
  readonly loadThreads: number;
  /** The beginnings of the commands. */
  readonly server: readonly string[];
  readonly load: readonly string[];
}

/** Divides the cores that this process may use, if there are several, and `taskset`. */
export async function dividePinning(): Promise<Pinning> {
  const cores = allowedCores();
  const isPinned = cores.length > 1 && await hasProgram("taskset");
  const [first, ...rest] = cores;
  return {
    isPinned,
    loadThreads: Math.max(1, cores.length - 1),
    server: isPinned ? ["taskset", "-c", String(first)] : [],
    load: isPinned ? ["taskset", "-c", rest.join(",")] : [],
  };
}

function allowedCores(): number[] {
  const list = /Cpus_allowed_list:\s*(\S+)/.exec(read("/proc/self/status"))?.[1];
  if (list === undefined) return Array.from({ length: navigator.hardwareConcurrency }, (_, i) => i);
  return list.split(",").flatMap((range) => {
    const [from, to = from] = range.split("-").map(Number) as [number, number?];
    return Array.from({ length: to! - from + 1 }, (_, i) => from + i);
  });
}

/** Whether a program can be found. */
export async function hasProgram(name: string): Promise<boolean> {
  return await versionOf(["sh", "-c", `command -v ${name}`]) !== undefined;
}

/** The first line that a command prints, or `undefined` if it fails. */
export async function versionOf(command: readonly string[]): Promise<string | undefined> {
  const [program, ...args] = command;
  try {
    const { success, stdout } = await new Deno.Command(program!, { args, stderr: "null" }).output();
    return success ? new TextDecoder().decode(stdout).trim().split("\n")[0] : undefined;
  } catch {
    return undefined;
  }
}
