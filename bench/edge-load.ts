import { Agent, request } from "node:http";
import { cpuMicrosecondsOfThreads } from "../test/system/processes.ts";

export interface Load {
  readonly url: string;
  readonly method?: "GET" | "POST";
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface Measured {
  /** Processor time of the edge's process for one request, in microseconds. */
  readonly cpu: number;
  readonly perSecond: number;
  /** Milliseconds, sorted. */
  readonly latencies: readonly number[];
}

/** Sends `count` requests, `concurrency` at a time, and answers what they cost. `next` makes each one. */
export async function measure(pid: number, count: number, concurrency: number, next: (index: number) => Load): Promise<Measured> {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
  const latencies: number[] = [];
  const cpuBefore = cpuMicrosecondsOfThreads(pid);
  const startedAt = performance.now();
  let index = 0;
  const worker = async () => {
    while (index < count) {
      const load = next(index);
      index += 1;
      const sentAt = performance.now();
      await send(load, agent);
      latencies.push(performance.now() - sentAt);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const seconds = (performance.now() - startedAt) / 1_000;
  const cpu = (cpuMicrosecondsOfThreads(pid) - cpuBefore) / count;
  agent.destroy();
  return { cpu, perSecond: count / seconds, latencies: latencies.toSorted((left, right) => left - right) };
}

/** The value below which the share `p` of sorted values lies. */
export function percentile(sorted: readonly number[], p: number): number {
  const value = sorted[Math.min(Math.floor(sorted.length * p), sorted.length - 1)];
  if (value === undefined) throw new Error("a percentile of nothing");
  return value;
}

function send({ url, method = "GET", headers = {}, body }: Load, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { method, headers, agent }, (response) => {
      response.resume();
      response.once("end", () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`${url} answered ${response.statusCode}`));
      });
    });
    outgoing.once("error", reject);
    outgoing.end(body);
  });
}
