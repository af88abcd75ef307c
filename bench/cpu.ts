import { Agent, get } from "node:http";

/** Enough for the 10 ms resolution of CPU times to be a small part of a round. */
const REQUESTS_PER_ROUND = 2_000;
const CONCURRENCY = 16;

/** CPU time, as `cpu` tells it, for one of many requests, 16 at a time, each of which must be answered with 200; in microseconds. */
export async function cpuPerRequest(cpu: () => number, url: string, headers: Record<string, string>): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONCURRENCY });
  const before = cpu();
  let left = REQUESTS_PER_ROUND;
  const worker = async () => {
    while (left > 0) {
      left -= 1;
      await request(url, headers, agent);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  const used = cpu() - before;
  agent.destroy();
  return used / REQUESTS_PER_ROUND;
}

function request(url: string, headers: Record<string, string>, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    get(url, { headers, agent }, (response) => {
      response.resume();
      response.once("end", () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`${url} answered ${response.statusCode}`));
      });
    }).once("error", reject);
  });
}
