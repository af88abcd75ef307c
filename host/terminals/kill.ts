import { readStat } from "../kill-command.ts";

/**
 * POSIX shell text that prints the session ids (proc(5), field 6 of `stat`) of processes started by sshd whose environment
 * holds exactly `assignment`: the leaders of terminal sessions. `assignment` must hold nothing that a shell or grep reads.
 */
export function sessionOfMarked(assignment: string): string {
  const find = `grep --files-with-matches --no-messages --null-data --line-regexp ${assignment} /proc/[0-9]*/environ`;
  return [
    `for path in $(${find}); do`,
    `  folder=\${path%/environ}`,
    `  ${readStat("$folder/stat")}`,
    // After the name in parentheses: state, parent, process group, session.
    `  parent=$2 session=$4`,
    `  read -r name < /proc/$parent/comm 2>/dev/null || continue`,
    `  case $name in sshd*) echo "$session";; esac`,
    `done`,
  ].join("\n");
}

/** POSIX shell text that kills every process of one session. */
export function killEveryoneIn(session: string): string {
  return [
    // More than once: a process may have forked while the list was made.
    `for round in 1 2 3; do`,
    `  found=`,
    `  for path in /proc/[0-9]*/stat; do`,
    `    ${readStat("$path")}`,
    `    [ "$4" = ${session} ] && pid=\${path#/proc/} && found="$found \${pid%/stat}"`,
    `  done`,
    `  [ -n "$found" ] || exit 0`,
    `  kill -KILL $found`,
    `done`,
  ].join("\n");
}
