/**
 * Makes the check whether a body asks for a command, and beside it at most for a time limit, as nearly all do: both dialects' schemas take
 * those as they are. `unnamed`: a member that such a body may also have, as null.
 */
export function plainExec(unnamed: "terminal" | "linuxUser"): (body: unknown) => boolean {
  return (body) => {
    if (typeof body !== "object" || body === null) return false;
    let hasCommand = false;
    for (const [name, value] of Object.entries(body)) {
      if (name === "command" && typeof value === "string") hasCommand = true;
      else if (name === "timeoutMs" && (value === null || isTimeLimit(value))) continue;
      else if (name !== unnamed || value !== null) return false;
    }
    return hasCommand;
  };
}

function isTimeLimit(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) > 0;
}
