import ssh2 from "ssh2";
import { withVm } from "./account.ts";
import { type Benchmark, percentile } from "./figure.ts";
import { type ProxiedForwarder, withProxiedForwarder } from "./proxied-forwarder.ts";

const ROUNDS = 20;
const PROMISE_MS = 100;

/** Time from the edge's answer to the end of a client's login into a VM that sleeps; it wakes behind it. */
export const sshLoginAsleep: Benchmark = {
  id: "ssh.login_asleep_p95_ms",
  against: `promise of ${PROMISE_MS} ms, p95 of ${ROUNDS} logins into a suspended VM`,
  measure: (system) =>
    withVm(system, ({ vmId, token, owner }) =>
      // So that each login asks the edge.
      withProxiedForwarder(system, { POSTERN_TICKETS_KEPT: "0" }, async (forwarder) => {
        const times: number[] = [];
        while (times.length < ROUNDS) {
          await owner.request("POST", `/v1/vms/${vmId}/suspend`, {});
          times.push(await logIn(forwarder, `${vmId}:${token}`));
        }
        return { value: percentile(times, 0.95), baseline: PROMISE_MS, unit: "ms" };
      }),
    ),
};

/** In milliseconds; the client stays until a command has run, so that the VM is awake at the end. */
async function logIn({ proxy, sshHost: host, sshPort: port }: ProxiedForwarder, username: string): Promise<number> {
  const client = new ssh2.Client();
  try {
    await new Promise<void>((resolve, reject) => {
      client.on("ready", resolve).on("error", reject);
      client.connect({ host, port, username });
    });
    const over = performance.now();
    const answeredAt = proxy.asked.findLast(({ path }) => path === "/service/v1/ssh-tickets")?.answeredAt;
    if (answeredAt == null) throw new Error("the edge was not asked");
    await new Promise<void>((resolve, reject) => {
      client.exec("true", (error, channel) => (error ? reject(error) : channel.on("close", resolve).resume()));
    });
    return over - answeredAt;
  } finally {
    client.end();
  }
}
