import { readdirSync, readFileSync } from "node:fs";

/** Clock ticks a second in `/proc/<pid>/stat`: USER_HZ, 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

/** The one descendant of `ancestor` with `word` in its command line. Throws when there is none or more than one. */
export function findDescendant(ancestor: number, word: string): number {
  const parents = new Map(listPids().map((pid) => [pid, readStat(pid)] as const));
  const descends = (pid: number): boolean => {
    const parent = parents.get(pid)?.parent;
    return parent !== undefined && (parent === ancestor || descends(parent));
  };
  const found = [...parents.keys()].filter((pid) => descends(pid) && commandLine(pid).includes(word));
  const [only] = found;
  if (only === undefined || found.length > 1) throw new Error(`${found.length} processes with ${word} under ${ancestor}`);
  return only;
}

/** A process and everything that it started which still runs. */
export function familyOf(ancestor: number): number[] {
  const parents = listPids().map((pid) => [pid, readStat(pid)?.parent] as const);
  const family = [ancestor];
  for (const member of family) family.push(...parents.filter(([, parent]) => parent === member).map(([pid]) => pid));
  return family;
}

/** CPU time that a process has used so far, user and system, in microseconds; its resolution is 10 ms. */
export function cpuMicroseconds(pid: number): number {
  const stat = readStat(pid);
  if (stat === null) throw new Error(`process ${pid} is gone`);
  return (stat.ticks * 1_000_000) / TICKS_PER_SECOND;
}

/**
 * CPU time of a process's threads that still run, in microseconds: as exact as the kernel counts it, and a whole process's where no
 * thread has ended. Source: "schedstats" of the kernel's scheduler documentation.
 */
export function cpuMicrosecondsOfThreads(pid: number): number {
  const nanoseconds = readdirSync(`/proc/${pid}/task`).map((thread) => {
    const [ran] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ");
    return Number(ran);
  });
  return nanoseconds.reduce((sum, ran) => sum + ran, 0) / 1_000;
}

/** CPU time as `cpuMicroseconds` tells it, with all the children that have ended and were waited for. */
export function cpuMicrosecondsWithEnded(pid: number): number {
  const stat = readStat(pid);
  if (stat === null) throw new Error(`process ${pid} is gone`);
  return ((stat.ticks + stat.endedTicks) * 1_000_000) / TICKS_PER_SECOND;
}

function listPids(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

function readStat(pid: number): { parent: number; ticks: number; endedTicks: number } | null {
  try {
    // proc(5): the command name may hold spaces and parentheses, so fields are counted from its end.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return {
      parent: Number(fields[1]),
      ticks: Number(fields[11]) + Number(fields[12]),
      endedTicks: Number(fields[13]) + Number(fields[14]),
    };
  } catch {
    return null;
  }
}
