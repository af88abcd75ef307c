import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { choosePort } from "../../bin/start/ports.ts";

const ADDRESS = "127.0.0.1";

it("a port chosen for 0 is none that an outgoing connection may take before it is used", async () => {
  const [first = 0] = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split(/\s+/).map(Number);
  for (let tries = 0; tries < 20; tries += 1) {
    const port = await choosePort(ADDRESS, 0, "PORT");
    expect(port).toBeGreaterThan(1_023);
    expect(port).toBeLessThan(first);
  }
});

it("a wanted port that is taken is refused, and the setting named that moves it", async () => {
  const server = createServer().listen(0, ADDRESS);
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await expect(choosePort(ADDRESS, port, "SSH_PORT")).rejects.toThrow(`Port ${port} on ${ADDRESS} is in use. Set SSH_PORT to`);
});

it("an address that is not this machine's is refused as what it is", async () => {
  await expect(choosePort("192.0.2.1", 0, "PORT")).rejects.toThrow("EADDRNOTAVAIL");
});
