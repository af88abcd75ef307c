import type { ServiceUnit } from "../protocol/host-api.ts";

/** First line of every unit file that is made here; only such a file is ever deleted. */
export const UNIT_MARK = "# Made through the API.";

/** The unit file of a service. Its schema keeps every value on its own line. */
export function renderUnit(unit: ServiceUnit): string {
  const { restartPolicy } = unit;
  const prepare = unit.mode === "service" ? unit.exec.slice(0, -1) : [];
  const run = unit.mode === "service" ? unit.exec.slice(-1) : unit.exec;
  const lines = [
    UNIT_MARK,
    "[Unit]",
    `Description=${unit.name}`,
    ...list("After", unit.after),
    ...list("Requires", unit.requires),
    ...list("OnFailure", unit.onFailure),
    ...one("StartLimitBurst", restartPolicy?.startLimitBurst),
    ...one("StartLimitIntervalSec", restartPolicy?.startLimitIntervalSec),
    "[Service]",
    `Type=${unit.mode === "oneshot" ? "oneshot" : unit.readySignal ? "notify" : "simple"}`,
    ...(unit.readySignal ? ["NotifyAccess=all"] : []),
    ...prepare.map((command) => `ExecStartPre=${command}`),
    ...run.map((command) => `ExecStart=${command}`),
    ...Object.entries(unit.env).map(([name, value]) => `Environment=${quote(`${name}=${value}`)}`),
    ...one("User", unit.user),
    ...one("Group", unit.group),
    ...one("WorkingDirectory", unit.workdir?.replaceAll("%", "%%")),
    ...one("TimeoutStartSec", unit.timeoutSec),
    ...one("WatchdogSec", unit.watchdogSec),
    ...(unit.remainAfterExit ? ["RemainAfterExit=yes"] : []),
    ...one("Restart", restartPolicy?.policy),
    ...one("RestartSec", restartPolicy?.restartSec),
    "[Install]",
    ...list("WantedBy", unit.wantedBy),
  ];
  return `${lines.join("\n")}\n`;
}

function one(name: string, value: string | number | undefined): string[] {
  return value === undefined ? [] : [`${name}=${value}`];
}

function list(name: string, values: readonly string[]): string[] {
  return values.length === 0 ? [] : [`${name}=${values.join(" ")}`];
}

/** systemd.syntax(7), Quoting; `%` would begin a specifier. */
function quote(text: string): string {
  const escaped = text
    .replaceAll("\\", "\\\\")
    .replaceAll('"', '\\"')
    .replaceAll("%", "%%")
    .replaceAll("\n", "\\n")
    .replaceAll(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
  return `"${escaped}"`;
}
