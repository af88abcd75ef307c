import { expect, it } from "vitest";
import { hasLeftClients } from "../../bin/start/left-clients.ts";

const HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const row = (port: string, state: string) =>
  `   1: 0100007F:${port} 0100007F:C350 ${state} 00000000:00000001 00:00000000 00000000     0        0 1234 1 0 20 4 30 10 -1`;
const table = (...rows: readonly string[]) => [HEAD, ...rows, ""].join("\n");

it("a connection to the port that its client has closed counts", () => {
  expect(hasLeftClients(table(row("2253", "01"), row("2253", "08")), 8787)).toBe(true);
  expect(hasLeftClients(table(row("0050", "08")), 80)).toBe(true);
});

it.each([
  ["connections that both sides keep, or listen", table(row("2253", "01"), row("2253", "0A"), row("2253", "06"))],
  ["those of another port", table(row("2254", "08"), row("0253", "08"))],
  ["those that this side's programs have as clients", "   1: 0100007F:C350 0100007F:2253 08 0:0"],
  ["an empty table", table()],
])("%s do not", (_what, text) => {
  expect(hasLeftClients(text, 8787)).toBe(false);
});
