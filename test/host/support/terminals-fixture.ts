import type { TerminalList, TerminalRow } from "../../../protocol/host-api.ts";
import type { TicketClaims } from "../../../protocol/ticket.ts";
import { TerminalClient } from "./terminal-client.ts";
import type { TestHost } from "./test-host.ts";

/** The terminals of one VM of a test host, as the edge would call them. */
export class VmTerminals {
  readonly host: TestHost;
  readonly vm: string;

  private constructor(host: TestHost, vm: string) {
    this.host = host;
    this.vm = vm;
  }

  /** Those of a new VM that has the Linux users alice and bob. */
  static async ofNewVm(host: TestHost): Promise<VmTerminals> {
    return new VmTerminals(host, await host.createVm({ users: [{ name: "alice" }, { name: "bob" }] }));
  }

  open(query: Record<string, string> = {}, claims: Partial<TicketClaims> = {}): Promise<TerminalClient> {
    return this.#socket("open", query, claims);
  }

  attach(id: string, query: Record<string, string> = {}, claims: Partial<TicketClaims> = {}): Promise<TerminalClient> {
    return this.#socket(`${id}/attach`, query, claims);
  }

  async list(user = "root"): Promise<TerminalRow[]> {
    const answer = await this.host.request("GET", `/vms/${this.vm}/terminals`, { vm: this.vm, user, op: "terminal" });
    return ((await answer.json()) as TerminalList).sessions;
  }

  close(id: string, user = "root", dialect = "v1"): Promise<Response> {
    const path = `/vms/${this.vm}/terminals/${id}?dialect=${dialect}`;
    return this.host.request("DELETE", path, { vm: this.vm, user, op: "terminal" });
  }

  /** Whether a process with this marker in its command line runs in the guest. Wakes it. */
  async runs(marker: string): Promise<boolean> {
    const answer = await this.host.exec(this.vm, "root", { command: `pgrep -f '[${marker[0]}]${marker.slice(1)}'` });
    return ((await answer.json()) as { statusCode: number }).statusCode === 0;
  }

  /** `suspend`, `stop`, `start` or `delete`. */
  async act(op: "suspend" | "stop" | "start" | "delete"): Promise<void> {
    const path = op === "delete" ? `/vms/${this.vm}` : `/vms/${this.vm}/${op}`;
    const answer = await this.host.request(op === "delete" ? "DELETE" : "POST", path, { vm: this.vm, op });
    if (!answer.ok) throw new Error(`${op} answered ${answer.status}: ${await answer.text()}`);
  }

  async state(): Promise<string> {
    const answer = await this.host.request("GET", `/vms/${this.vm}`, { vm: this.vm, op: "read" });
    return ((await answer.json()) as { state: string }).state;
  }

  #socket(path: string, query: Record<string, string>, claims: Partial<TicketClaims>): Promise<TerminalClient> {
    const search = new URLSearchParams({ dialect: "v1", ...query });
    return TerminalClient.connect(this.host, `/vms/${this.vm}/terminals/${path}?${search}`, { vm: this.vm, ...claims });
  }
}
