import { afterEach, beforeEach, expect, test } from "vitest";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ env: { POSTERN_METRICS_LISTEN: "127.0.0.1:0" } });
});
afterEach(() => world.close());

async function metrics(): Promise<string> {
  return (await fetch(`http://127.0.0.1:${world.metricsPort}/metrics`)).text();
}

test("logins, refusals, tunnels and bytes are counted, and no label names anybody", async () => {
  await world.exec("head -c 100000 /dev/zero");
  await world.exec("true");
  const wrong = world.startSsh(["-o", "BatchMode=yes", ...world.ssh(`${world.vmId}:pst_wrong`, "true")]);
  await wrong.done;
  await fetch(`http://127.0.0.1:${world.port}/`).catch(() => undefined);
  const text = await metrics();
  expect(text).toContain('postern_ssh_logins_total{mode="ssh",outcome="ok"} 2\n');
  expect(text).toContain('postern_ssh_logins_total{mode="ssh",outcome="credential-invalid"} 1\n');
  expect(text).toContain('postern_ssh_tunnels_total{outcome="ok"} 2\n');
  expect(text).toContain('postern_ssh_turned_away_total{reason="not-ssh"} 1\n');
  expect(Number(/^postern_ssh_bytes_down_total (\d+)$/m.exec(text)?.[1])).toBeGreaterThan(100_000);
  for (const secret of [world.vmId, world.token, "pst_wrong", "127.0.0.1", world.grant.subject]) expect(text).not.toContain(secret);
});

test("every line is one that Prometheus reads, each metric declared once", async () => {
  await world.exec("true");
  const lines = (await metrics()).trimEnd().split("\n");
  const sample = /^[a-z_]+(\{([a-z_]+="[a-z-]+",?)+\})? [0-9.e+-]+$/;
  for (const line of lines)
    expect(line).toMatch(line.startsWith("#") ? /^# (HELP [a-z_]+ .+|TYPE [a-z_]+ (counter|gauge))$/ : sample);
  const declared = lines.filter((line) => line.startsWith("# TYPE"));
  expect(new Set(declared).size).toBe(declared.length);
});

test("nothing else is served there", async () => {
  const base = `http://127.0.0.1:${world.metricsPort}`;
  expect((await fetch(base)).status).toBe(404);
  expect((await fetch(`${base}/metrics`, { method: "POST" })).status).toBe(404);
});
