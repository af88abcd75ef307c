import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type HostAgent, startHostAgent } from "../../../host/agent.ts";
import type { Driver } from "../../../host/driver.ts";
import { readHostSettings } from "../../../host/settings.ts";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import { newVmId } from "../../../protocol/ids.ts";
import type { TicketClaims } from "../../../protocol/ticket.ts";
import { createLog } from "../../../service/log.ts";
import { TestDriver } from "./test-driver.ts";
import { SERVICE_KEY, startTestEdge, type TestEdge } from "./test-edge.ts";

const GUEST_SSH_PORT = 2222;

export interface TestHost {
  readonly edge: TestEdge;
  readonly driver: TestDriver;
  /** The agent that runs now. */
  readonly agent: HostAgent;
  /** Lines of the agent's log. */
  readonly log: string[];
  readonly stateDir: string;
  /** A request with a good ticket, `claims` over sane ones. */
  request(method: string, path: string, claims: Partial<TicketClaims>, init?: RequestInit): Promise<Response>;
  /** A new running VM. */
  createVm(body?: object): Promise<string>;
  exec(vmId: string, linuxUser: string, body: object): Promise<Response>;
  /** Ends the agent and starts another on the same state, driver and edge; `between` runs while none is there. */
  restart(between?: () => void): Promise<void>;
  close(): Promise<void>;
}

/**
 * A host agent with real guests on loopback and an edge of the test's own. `env` overrides settings; `own` is used in place
 * of the test's driver. `stateDir` is removed at the end.
 */
export async function startTestHost(
  env: NodeJS.ProcessEnv = {},
  own: Driver | null = null,
  stateDir = mkdtempSync(join(tmpdir(), "postern-host-")),
): Promise<TestHost> {
  const keyFile = join(stateDir, "service-key");
  writeFileSync(keyFile, SERVICE_KEY, { mode: 0o600 });
  const edge = await startTestEdge();
  const log: string[] = [];
  const driver = new TestDriver(GUEST_SSH_PORT);
  const start = () =>
    startHostAgent({
      settings: readHostSettings({
        POSTERN_EDGE_URL: edge.url,
        POSTERN_SERVICE_KEY_FILE: keyFile,
        POSTERN_HOST_STATE: stateDir,
        POSTERN_EXEC_KILL_GRACE_MS: "1000",
        ...env,
      }),
      driver: own ?? driver,
      log: createLog((line) => log.push(line)),
      clock: Date.now,
      randomBytes: platformRandomBytes,
      guestSshPort: GUEST_SSH_PORT,
    });
  let agent = await start();
  const request: TestHost["request"] = async (method, path, claims, init = {}) => {
    const ticket = await edge.ticket(agent.id, claims);
    const headers = new Headers(init.headers);
    headers.set("authorization", `Bearer ${ticket}`);
    return fetch(`${agent.url}${path}`, { ...init, method, headers });
  };
  return {
    edge,
    driver,
    get agent() {
      return agent;
    },
    log,
    stateDir,
    request,
    createVm: async (body = {}) => {
      const vm = newVmId(platformRandomBytes);
      const answer = await request("PUT", `/vms/${vm}`, { vm, op: "create" }, json(body));
      if (answer.status !== 200) throw new Error(`create answered ${answer.status}: ${await answer.text()}\n${log.join("")}`);
      return vm;
    },
    exec: (vm, user, body) => request("POST", `/vms/${vm}/exec`, { vm, user, op: "exec" }, json(body)),
    restart: async (between) => {
      await agent.close();
      between?.();
      agent = await start();
    },
    close: async () => {
      await agent.close();
      await driver.destroy();
      await edge.close();
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
}

export function json(body: object): RequestInit {
  return { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
}
