import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const GUIDED = fileURLToPath(new URL("guided.ts", import.meta.url));

async function fuzz(...args: string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [GUIDED, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += String(text)));
  const [code] = await once(child, "close");
  return { code, output };
}

test("guided by coverage, a fault behind four conditions is found, shown, and told by the exit code", async () => {
  const { code, output } = await fuzz("planted", "40");
  expect(output).toContain('planted failed on "%=+,');
  expect(code).toBe(1);
}, 60_000);

test("every target holds its promises for a bounded run", async () => {
  const { code, output } = await fuzz("all", "6");
  expect(output.match(/^\w+: \d+ inputs/gm)).toHaveLength(6);
  expect(code).toBe(0);
}, 60_000);
