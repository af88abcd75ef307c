import { Agent, get } from "node:http";
import { median } from "./figure.ts";

/** Enough for the 10 ms resolution of CPU times to be a small part of a round. */
const REQUESTS_PER_ROUND = 2_000;
const CONCURRENCY = 16;
const ROUNDS = 5;

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

/**
 * Measures two ways in turns, so that whatever else the machine does hits both: the medians, in `unit`. One round of each
 * before them warms up.
 */
export async function inTurns(
  ours: () => Promise<number>,
  theirs: () => Promise<number>,
  unit = "µs",
  rounds = ROUNDS,
): Promise<{ readonly value: number; readonly baseline: number; readonly unit: string }> {
  await ours();
  await theirs();
  const times: { ours: number; theirs: number }[] = [];
  while (times.length < rounds) times.push({ ours: await ours(), theirs: await theirs() });
  const [value, baseline] = [median(times.map((round) => round.ours)), median(times.map((round) => round.theirs))];
  return { value, baseline, unit };
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
