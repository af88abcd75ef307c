import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RunningSystem } from "../test/system/running-system.ts";
import { edgeAuthorisedCpu } from "./edge-authorised-cpu.ts";
import { edgeCachedCpu, edgeColdCpu, edgeSignedCpu } from "./edge-cpu.ts";
import { edgeHitRate } from "./edge-hit-rate.ts";
import { edgeLatency } from "./edge-latency.ts";
import type { Benchmark, Figure } from "./figure.ts";
import { growth } from "./growth.ts";
import { hostContainer } from "./host-container.ts";
import { hostHttpRatio } from "./host-http.ts";
import { hostQemu } from "./host-qemu.ts";
import { hostWake500, hostWake500VsRunning } from "./host-wake-500.ts";
import { identityChecks } from "./identity-checks.ts";
import { peerBetterAuthD1, peerBetterAuthMemory } from "./peer-better-auth.ts";
import { peerNginxPg } from "./peer-nginx-pg.ts";
import { peerOauthProvider } from "./peer-oauth-provider.ts";
import { revokeHttp, revokeHttpFeedDown } from "./revoke-http.ts";
import { revokeSsh, revokeSshFeedDown } from "./revoke-ssh.ts";
import { sshConnectVsDirect } from "./ssh-connect.ts";
import { sshCpu } from "./ssh-cpu.ts";
import { sshEcho } from "./ssh-echo.ts";
import { sshLoginAsleep } from "./ssh-login-asleep.ts";
import { sshHostile, sshIdle } from "./ssh-memory.ts";
import { sshNeighbour } from "./ssh-neighbour.ts";
import { sftpSmall, sftpSmallFar } from "./ssh-small-files.ts";
import { sshDownVsDirect, sshDownVsJump, sshUpVsJump } from "./ssh-throughput.ts";
import { sshWorkersScaling } from "./ssh-workers.ts";

const BENCHMARKS: readonly Benchmark[] = [
  edgeAuthorisedCpu,
  edgeCachedCpu,
  edgeSignedCpu,
  edgeColdCpu,
  edgeHitRate,
  identityChecks,
  growth,
  peerBetterAuthD1,
  peerBetterAuthMemory,
  peerOauthProvider,
  peerNginxPg,
  edgeLatency,
  revokeHttp,
  revokeHttpFeedDown,
  revokeSsh,
  revokeSshFeedDown,
  sshDownVsDirect,
  sshDownVsJump,
  sshUpVsJump,
  ...sftpSmall,
  sftpSmallFar,
  sshCpu,
  sshWorkersScaling,
  sshConnectVsDirect,
  sshLoginAsleep,
  sshEcho,
  sshIdle,
  sshHostile,
  ...sshNeighbour,
  hostHttpRatio,
  ...hostContainer,
  hostWake500,
  hostWake500VsRunning,
  ...hostQemu,
];

/** What is measured is how fast it can go, not how fast it lets one credential go. */
const UNLIMITED = { RATE_PRINCIPAL_PER_S: "0" };

/** Runs the benchmarks whose id holds the first argument (all without one) against a system of their own. */
async function main(wanted = ""): Promise<void> {
  const chosen = BENCHMARKS.filter(({ id }) => id.includes(wanted));
  if (chosen.length === 0) throw new Error(`no benchmark's id holds "${wanted}": ${BENCHMARKS.map(({ id }) => id).join(", ")}`);
  const folder = mkdtempSync(join(tmpdir(), "postern-bench-"));
  console.error("Starting a system to measure …");
  const system = await RunningSystem.start({ home: join(folder, "home"), env: UNLIMITED });
  try {
    const figures: Figure[] = [];
    for (const { id, against, measure } of chosen) {
      console.error(`Measuring ${id} against: ${against} …`);
      const { value, unit, baseline } = await measure(system.access);
      figures.push({ id, value: round(value), unit, baseline: round(baseline), ratio: round(value / baseline) });
      keep(figures);
    }
    console.log(table(figures));
  } finally {
    await system.stop();
    rmSync(folder, { recursive: true });
  }
}

/** Writes figures to `results.json`; those of other benchmarks, from earlier runs, stay. */
function keep(figures: readonly Figure[]): void {
  const file = new URL("results.json", import.meta.url);
  const known: readonly Figure[] = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : [];
  const others = known.filter(({ id }) => !figures.some((figure) => figure.id === id));
  writeFileSync(file, `${JSON.stringify([...others, ...figures], null, 2)}\n`);
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}

function table(figures: readonly Figure[]): string {
  const rows = [
    ["figure", "value", "baseline", "ratio", "unit"],
    ...figures.map(({ id, value, baseline, ratio, unit }) => [id, `${value}`, `${baseline}`, `${ratio}`, unit]),
  ];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ")).join("\n");
}

await main(process.argv[2]);
