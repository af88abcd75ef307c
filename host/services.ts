import { z } from "zod";
import { failure, type Result, success } from "../protocol/failures.ts";
import {
  type ExecAnswer,
  SERVICE_NAME_PATTERN,
  type ServiceAction,
  type ServiceActionAnswer,
  type ServiceList,
  type ServiceLogs,
  type ServiceLogsQuery,
  type ServiceStatus,
  type ServiceUnit,
} from "../protocol/host-api.ts";
import type { Accounts } from "./accounts.ts";
import { type CommandLimits, startCommand } from "./command.ts";
import type { ManagedMachine } from "./machine.ts";
import { renderUnit, UNIT_MARK } from "./service-unit.ts";
import { shellQuote } from "./shell-quote.ts";

const LIMITS: CommandLimits = { outputBytes: 16 * 1024 * 1024, drainMs: 500, killGraceMs: 2_000 };
/** A start waits until the service says that it runs; systemd's own limit is 90 s. */
const TIMEOUT_MS = 100_000;
const UNIT_DIR = "/etc/systemd/system";

/** Exit statuses of our own scripts, apart from those of systemctl(1). */
const REFUSED = 91;
const EXISTS = 92;
const NOT_OURS = 93;

const journalLine = z.object({
  MESSAGE: z.union([z.string(), z.null(), z.array(z.number())]).optional(),
  __REALTIME_TIMESTAMP: z.string(),
  PRIORITY: z.string().optional(),
  _SYSTEMD_UNIT: z.string().optional(),
});

/**
 * The guest's services, by its own systemctl and journalctl. What root may do anyway another Linux user does through sudo, so
 * that the guest decides: a user whom sudo refuses gets `linux-user-forbidden`. Wakes the VM first.
 */
export class Services {
  readonly #accounts: Accounts;

  constructor(accounts: Accounts) {
    this.#accounts = accounts;
  }

  async list(machine: ManagedMachine, linuxUser: string): Promise<Result<ServiceList>> {
    const answer = await this.#run(machine, linuxUser, "systemctl list-units --type=service --all --plain --no-legend --no-pager");
    if (!answer.ok) return answer;
    const names = answer.value.stdout.split("\n").map((line) => line.trim().split(/\s+/, 1)[0] ?? "");
    return success({ services: names.filter((name) => name.endsWith(".service")).map((name) => ({ name: withoutSuffix(name) })) });
  }

  /** Makes a service; `service-exists` when the guest has one of that name. */
  async create(machine: ManagedMachine, linuxUser: string, wish: ServiceUnit): Promise<Result<null>> {
    const name = readName(wish.name);
    if (name === null) return nameInvalid();
    const unit = shellQuote(`${name}.service`);
    const enable = wish.enable ? `&& systemctl enable --quiet --now --no-block ${unit}` : "";
    const script = `if systemctl cat ${unit} >/dev/null 2>&1; then exit ${EXISTS}; fi
file=${UNIT_DIR}/${unit}; umask 022; cat >"$file.new" && mv -T "$file.new" "$file" && systemctl daemon-reload ${enable}`;
    const answer = await this.#run(machine, linuxUser, script, renderUnit({ ...wish, name }));
    if (!answer.ok) return answer;
    if (answer.value.statusCode === EXISTS) return failure("service-exists", `The service '${name}' exists already.`);
    return answer.value.statusCode === 0
      ? success(null)
      : failure("bad-request", `systemd refused '${name}': ${complaint(answer.value)}`);
  }

  /** Stops and deletes a service that was made here. */
  async delete(machine: ManagedMachine, linuxUser: string, wanted: string): Promise<Result<null>> {
    const name = readName(wanted);
    if (name === null) return nameInvalid();
    const unit = shellQuote(`${name}.service`);
    const script = `file=${UNIT_DIR}/${unit}
[ -f "$file" ] && [ "$(head -n 1 "$file")" = ${shellQuote(UNIT_MARK)} ] || exit ${NOT_OURS}
systemctl disable --quiet --now ${unit}; rm -f "$file" && systemctl daemon-reload && { systemctl reset-failed ${unit} 2>/dev/null || true; }`;
    const answer = await this.#run(machine, linuxUser, script);
    if (!answer.ok) return answer;
    if (answer.value.statusCode === NOT_OURS) return notFound(name);
    return answer.value.statusCode === 0
      ? success(null)
      : failure("conflict", `'${name}' was not deleted: ${complaint(answer.value)}`);
  }

  async status(machine: ManagedMachine, linuxUser: string, wanted: string): Promise<Result<ServiceStatus>> {
    const name = readName(wanted);
    if (name === null) return nameInvalid();
    const properties = "--property=ActiveState --property=SubState --property=LoadState --property=Description";
    const answer = await this.#run(machine, linuxUser, `systemctl show ${properties} -- ${shellQuote(`${name}.service`)}`);
    if (!answer.ok) return answer;
    const shown = new Map(answer.value.stdout.split("\n").map((line) => splitAt(line, "=")));
    const loadState = shown.get("LoadState") ?? "not-found";
    if (loadState === "not-found") return notFound(name);
    return success({
      name,
      activeState: shown.get("ActiveState") ?? "unknown",
      subState: shown.get("SubState") ?? "unknown",
      loadState,
      description: shown.get("Description") ?? "",
    });
  }

  /** Oldest first. */
  async logs(machine: ManagedMachine, linuxUser: string, wanted: string, query: ServiceLogsQuery): Promise<Result<ServiceLogs>> {
    const status = await this.status(machine, linuxUser, wanted);
    if (!status.ok) return status;
    const unit = shellQuote(`${status.value.name}.service`);
    const since = query.since === undefined ? "" : `--since=${shellQuote(query.since)}`;
    const script = `journalctl --unit=${unit} --lines=${query.lines} ${since} --output=json --no-pager --quiet`;
    const answer = await this.#run(machine, linuxUser, script);
    if (!answer.ok) return answer;
    if (answer.value.statusCode !== 0) return failure("bad-request", `since: ${complaint(answer.value)}`);
    return success({ logs: answer.value.stdout.split("\n").flatMap(readJournalLine) });
  }

  /** Starts, stops or restarts services, each on its own; what becomes of one says nothing about the next. */
  async act(machine: ManagedMachine, linuxUser: string, { verb, names }: ServiceAction): Promise<Result<ServiceActionAnswer>> {
    const results: ServiceActionAnswer["results"] = [];
    for (const wanted of names) {
      const name = readName(wanted);
      if (name === null) return nameInvalid();
      const answer = await this.#run(machine, linuxUser, `systemctl ${verb} -- ${shellQuote(`${name}.service`)}`);
      if (!answer.ok) return answer;
      const isDone = answer.value.statusCode === 0;
      results.push({ name: wanted, success: isDone, message: isDone ? `${verb}: done` : complaint(answer.value) });
    }
    return success({ results });
  }

  async #run(machine: ManagedMachine, linuxUser: string, script: string, stdin = ""): Promise<Result<ExecAnswer>> {
    const caller = new AbortController().signal;
    const asRoot = `exec /bin/sh -c ${shellQuote(script)}`;
    const command =
      linuxUser === "root" ? asRoot : `sudo -n true 2>/dev/null || exit ${REFUSED}; exec sudo -n /bin/sh -c ${shellQuote(script)}`;
    const request = {
      command: `exec /bin/sh -c ${shellQuote(command)}`,
      env: {},
      stdin: Buffer.from(stdin),
      timeoutMs: TIMEOUT_MS,
    };
    const opened = await this.#accounts.openAs(machine, linuxUser, (client, down) =>
      startCommand(client, request, LIMITS, { caller, down, kill: () => undefined }),
    );
    if (!opened.ok) return opened;
    const answer = await opened.value.channel.result;
    opened.value.release();
    if (!answer.ok || answer.value.statusCode !== REFUSED) return answer;
    return failure("linux-user-forbidden", `The Linux user '${linuxUser}' may not manage services: sudo refuses.`, { linuxUser });
  }
}

/** A service's name without `.service`, or null when it cannot be one. */
function readName(wanted: string): string | null {
  const name = withoutSuffix(wanted);
  return SERVICE_NAME_PATTERN.test(name) ? name : null;
}

function withoutSuffix(name: string): string {
  return name.replace(/\.service$/, "");
}

function nameInvalid(): Result<never> {
  return failure(
    "service-name-invalid",
    "A service's name is a letter or digit, then at most 63 of A-Z, a-z, 0-9, '.', '_', '@' and '-'.",
  );
}

function notFound(name: string): Result<never> {
  return failure("service-not-found", `There is no service '${name}' that this could be done to.`);
}

function complaint({ stderr, statusCode }: ExecAnswer): string {
  return stderr.trim().split("\n", 1)[0] || `status ${statusCode}`;
}

function splitAt(line: string, separator: string): [string, string] {
  const at = line.indexOf(separator);
  return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1)];
}

function readJournalLine(line: string): ServiceLogs["logs"] {
  if (line === "") return [];
  const read = journalLine.safeParse(JSON.parse(line));
  if (!read.success) return [];
  const { MESSAGE: message, __REALTIME_TIMESTAMP: microseconds, PRIORITY: priority, _SYSTEMD_UNIT: unit } = read.data;
  return [
    {
      // journalctl shows a message that is not UTF-8 as its bytes, and one that is too long as null.
      message: Array.isArray(message) ? Buffer.from(message).toString("utf8") : (message ?? ""),
      timestamp: new Date(Number(microseconds) / 1000).toISOString(),
      ...(priority === undefined ? {} : { priority: Number(priority) }),
      ...(unit === undefined ? {} : { unit }),
    },
  ];
}
