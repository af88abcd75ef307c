/** A process of a guest and the session that it is in (setsid(2)). */
export interface MarkedProcess {
  readonly pid: number;
  readonly session: number;
}

/**
 * POSIX shell text that prints pid and session of every process whose environment holds exactly `assignment`, which must hold
 * nothing that a shell or grep reads.
 */
export function findMarked(assignment: string): string {
  return [
    `for path in $(grep --files-with-matches --no-messages --null-data --line-regexp ${assignment} /proc/[0-9]*/environ); do`,
    `  folder=\${path%/environ}`,
    `  ${readStat("$folder/stat")}`,
    `  echo "\${folder#/proc/} $4"`,
    `done`,
  ].join("\n");
}

/** What `findMarked` printed. Nothing of session 0, which began outside the guest, or of 1, that of its first process. */
export function readMarked(printed: string): MarkedProcess[] {
  return printed.split("\n").flatMap((line) => {
    const [, pid, session] = /^(\d+) (\d+)$/.exec(line) ?? [];
    return Number(pid) > 1 && Number(session) > 1 ? [{ pid: Number(pid), session: Number(session) }] : [];
  });
}

/**
 * POSIX shell text that kills processes, all that descend from them, and all that are in a session with one of these: `sudo`, `su -`
 * and `env -i` drop what a command's environment holds, and `su` begins a session of its own.
 */
export function killWithKin(marked: readonly MarkedProcess[]): string {
  return [
    `pids=" ${marked.map(({ pid }) => pid).join(" ")} "`,
    `sessions=" ${marked.map(({ session }) => session).join(" ")} "`,
    `more=1`,
    `while [ $more = 1 ]; do`,
    `  more=0`,
    `  for path in /proc/[0-9]*/stat; do`,
    `    pid=\${path#/proc/} pid=\${pid%/stat}`,
    `    case $pids in *" $pid "*) continue;; esac`,
    // After the name in parentheses: state, parent, process group, session.
    `    ${readStat("$path")}`,
    `    case $sessions in *" $4 "*) ;; *) case $pids in *" $2 "*) ;; *) continue;; esac;; esac`,
    `    [ "$4" != "$pid" ] || sessions="$sessions$pid "`,
    `    pids="$pids$pid " more=1`,
    `  done`,
    `done`,
    `kill -KILL $pids`,
  ].join("\n");
}

/** Reads a process's `stat` (proc(5)) into `$1`…, without its name, which may hold spaces and parentheses. */
export function readStat(path: string): string {
  return `read -r line < ${path} 2>/dev/null || continue; set -- \${line##*) }`;
}
