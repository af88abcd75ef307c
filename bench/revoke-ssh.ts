import type { ApiClient } from "../bin/operator.ts";
import type { BackgroundCommand } from "../test/system/command.ts";
import { FAITHFUL } from "../test/system/edge-proxy.ts";
import { until } from "../test/system/poll.ts";
import { SshClient } from "../test/system/ssh-client.ts";
import { type BenchVm, withVm } from "./account.ts";
import type { Benchmark } from "./figure.ts";
import { withProxiedForwarder } from "./proxied-forwarder.ts";
import { shown } from "./revoke-http.ts";

const RUNS = 200;
/** Sessions that are live together: with the feed up cut one after another, with the feed down all at once. */
const BATCH = 20;
const BATCH_FEED_DOWN = 50;
/** Logins at a time: more only wait for each other's processor. */
const LOGINS = 20;
/** Far longer than the promise: what is not over then has failed, in milliseconds. */
const DEADLINE_MS = 60_000;

interface Live {
  readonly session: BackgroundCommand;
  readonly tokenPath: string;
}

/**
 * Time from the moment a token's revocation is asked for to the end of the `ssh` program that it had logged in: OpenSSH
 * through the forwarder into a guest, an identity for each session, the feed up.
 */
export const revokeSsh: Benchmark = {
  id: "revoke.ssh_p99_ms",
  against: `promise of 2 s (feed up), p99 of ${RUNS} live sessions`,
  measure: (system) =>
    withVm(system, async (vm) => {
      const ssh = new SshClient(system);
      const times: number[] = [];
      try {
        while (times.length < RUNS) times.push(...(await withLive(BATCH, vm, ssh, (batch) => oneByOne(vm.owner, batch))));
      } finally {
        ssh.close();
      }
      return { ...shown(times), baseline: 2_000 };
    }),
};

/** The same by a forwarder whose feed has gone silent without a word; then the next ones log in once it is heard again. */
export const revokeSshFeedDown: Benchmark = {
  id: "revoke.ssh_feed_down_p99_ms",
  against: `promise of 20 s (feed down), p99 of ${RUNS} live sessions`,
  measure: (system) =>
    withVm(system, (vm) =>
      withProxiedForwarder(system, {}, async ({ proxy, ...endpoint }) => {
        const ssh = new SshClient(endpoint);
        const times: number[] = [];
        try {
          while (times.length < RUNS) {
            const cutAll = (batch: readonly Live[]) => {
              proxy.fault = () => [];
              return Promise.all(batch.map((live) => cut(vm.owner, live)));
            };
            times.push(...(await withLive(BATCH_FEED_DOWN, vm, ssh, cutAll)));
            proxy.fault = FAITHFUL;
          }
        } finally {
          ssh.close();
        }
        return { ...shown(times), baseline: 20_000 };
      }),
    ),
};

async function oneByOne(owner: ApiClient, batch: readonly Live[]): Promise<number[]> {
  const times: number[] = [];
  for (const live of batch) times.push(await cut(owner, live));
  return times;
}

/** Runs `use` with `count` live sessions; whatever of them is left is ended after. */
async function withLive(
  count: number,
  vm: BenchVm,
  ssh: SshClient,
  use: (batch: readonly Live[]) => Promise<number[]>,
): Promise<number[]> {
  const batch: Live[] = [];
  try {
    while (batch.length < count) {
      const opening = await Promise.allSettled(Array.from({ length: Math.min(LOGINS, count - batch.length) }, () => open(vm, ssh)));
      for (const one of opening) if (one.status === "fulfilled") batch.push(one.value);
      for (const one of opening) if (one.status === "rejected") throw one.reason;
    }
    return await use(batch);
  } finally {
    await Promise.all(batch.map(({ session }) => session.kill()));
  }
}

/** A session of an identity of its own that has said it is live and then waits for input. */
async function open({ vmId, owner }: BenchVm, ssh: SshClient): Promise<Live> {
  const { id } = await owner.request<{ id: string }>("POST", "/identity/v1/identities");
  await owner.request("POST", `/identity/v1/identities/${id}/permissions/vm/${vmId}`, {});
  const made = await owner.request<{ id: string; token: string }>("POST", `/identity/v1/identities/${id}/tokens`);
  const session = ssh.sshInBackground(`${vmId},${made.token}`, "echo live; exec cat");
  try {
    await until("the session is live", DEADLINE_MS, () => (session.output === "live\n" ? true : undefined));
  } catch (error) {
    await session.kill();
    throw new Error(`no session: ${session.errors}`, { cause: error });
  }
  return { session, tokenPath: `/identity/v1/identities/${id}/tokens/${made.id}` };
}

/** Revokes the token and answers the milliseconds until `ssh` has ended, for that reason and no other. */
async function cut(owner: ApiClient, { session, tokenPath }: Live): Promise<number> {
  if (session.process.exitCode !== null) throw new Error(`a session ended before its token was revoked: ${session.errors}`);
  const timer = setTimeout(() => session.process.kill("SIGKILL"), DEADLINE_MS);
  const startedAt = performance.now();
  const ended = session.finished.then((finished) => ({ ...finished, took: performance.now() - startedAt }));
  const [{ code, stderr, took }] = await Promise.all([ended, owner.request("DELETE", tokenPath)]);
  clearTimeout(timer);
  if (code !== 255 || !stderr.includes("Your access to this VM was revoked")) {
    throw new Error(`a revoked session ended with ${code}: ${stderr}`);
  }
  return took;
}
