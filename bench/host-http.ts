import { request } from "node:http";
import { GUEST_WEB } from "../test/system/guest-web.ts";
import type { SystemAccess } from "../test/system/running-system.ts";
import { type BenchVm, withVm } from "./account.ts";
import { type Benchmark, median } from "./figure.ts";

const BYTES = 256 * 1024 * 1024;
const ROUNDS = 3;
const MIB = 1024 * 1024;

interface Target {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Fetches a page and answers how many bytes it had. */
function fetchAll({ url, headers }: Target, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request(url + path, { headers }, (answer) => {
      let bytes = 0;
      answer.on("data", (piece: Buffer) => {
        bytes += piece.length;
      });
      answer.on("end", () => (answer.statusCode === 200 ? resolve(bytes) : reject(new Error(`status ${answer.statusCode}`))));
      answer.on("error", reject);
    });
    asked.on("error", reject);
    asked.end();
  });
}

async function rateOf(target: Target): Promise<number> {
  const before = performance.now();
  const bytes = await fetchAll(target, `/zeros/${BYTES}`);
  if (bytes !== BYTES) throw new Error(`only ${bytes} bytes arrived`);
  return bytes / MIB / ((performance.now() - before) / 1000);
}

/** Runs a command in the VM as root. */
async function exec({ owner, vmId }: BenchVm, command: string): Promise<string> {
  const answer = await owner.request<{ stdout?: string | null }>("POST", `/v1/vms/${vmId}/exec-await`, {
    command,
    terminal: null,
    timeoutMs: 30_000,
  });
  return answer.stdout ?? "";
}

/** A web server in a new VM, by the VM's name and by its address. */
async function withServer<T>(system: SystemAccess, use: (edge: Target, direct: Target) => Promise<T>): Promise<T> {
  return withVm(system, async (vm) => {
    const encoded = Buffer.from(GUEST_WEB).toString("base64");
    await exec(vm, `echo ${encoded} | base64 -d > /srv/web.py; setsid -f python3 /srv/web.py >/srv/web.log 2>&1 </dev/null`);
    const address = (await exec(vm, "hostname -I")).trim().split(" ")[0];
    const host = `${vm.vmId}.vm.localhost:${new URL(system.apiUrl).port}`;
    const edge = { url: system.apiUrl, headers: { host, "x-freestyle-identity-access-token": vm.token } };
    // The first visit waits for the server to start.
    await fetchAll(edge, "/");
    return use(edge, { url: `http://${address}:3000`, headers: {} });
  });
}

/** How fast a large answer comes through the edge from a server in a guest; against the same straight from the guest's address. */
export const hostHttpRatio: Benchmark = {
  id: "host.http_ratio",
  against: "the same from the guest's address",
  measure: (system) =>
    withServer(system, async (edge, direct) => {
      const rates: { edge: number[]; direct: number[] } = { edge: [], direct: [] };
      for (let round = 0; round < ROUNDS; round += 1) {
        rates.direct.push(await rateOf(direct));
        rates.edge.push(await rateOf(edge));
      }
      return { value: median(rates.edge), baseline: median(rates.direct), unit: "MiB/s" };
    }),
};
