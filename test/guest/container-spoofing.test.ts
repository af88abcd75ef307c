import { beforeAll, describe, expect, it } from "vitest";
import { createContainerDriver } from "../../host/drivers/container.ts";
import { createLog } from "../../service/log.ts";
import { guestPid } from "./guest-process.ts";
import { CACHE_DIR, openWorld, run, type World } from "./guest-world.ts";

// As if a guest had escaped the limits on its root: the commands run in its network with every capability of the host's.
describe("a guest with full power over its own network", () => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld((stateDir) =>
      createContainerDriver({ stateDir, cacheDir: CACHE_DIR, log: createLog(() => undefined) }),
    );
    return () => world.close();
  });

  const inNetworkOf = async (vmId: string, command: string) =>
    run("nsenter", ["--target", String(await guestPid(vmId)), "--net", "bash", "-c", command]);
  const askMetadata = "curl --silent --max-time 3 --output /dev/null --write-out '%{http_code}' http://169.254.169.254/";

  it("cannot speak with another guest's address", async () => {
    const [thief, victim] = [await world.createVm(), await world.createVm()];
    expect((await inNetworkOf(thief.vmId, askMetadata)).stdout).toBe("200");
    await world.driver.pause(victim.vmId);
    const swap = `ip address flush dev eth0; ip address add ${victim.address}/20 dev eth0; ip route add default via ${world.driver.gatewayAddress}`;
    const asked = await inNetworkOf(thief.vmId, `${swap}; ${askMetadata}`);
    expect(asked.stdout).toBe("000");
  });

  it("cannot speak with an address from elsewhere, nor with another MAC address", async () => {
    const vm = await world.createVm();
    const foreign = await inNetworkOf(
      vm.vmId,
      "ip address add 203.0.113.9/32 dev eth0; curl --silent --max-time 3 --interface 203.0.113.9 http://169.254.169.254/",
    );
    expect(foreign.status).not.toBe(0);
    const renamed = await inNetworkOf(
      vm.vmId,
      `ip link set eth0 address 02:50:00:00:00:99; ip neigh flush dev eth0; ${askMetadata}`,
    );
    expect(renamed.stdout).toBe("000");
  });

  it("cannot reach another guest by way of the gateway", async () => {
    const [first, second] = [await world.createVm(), await world.createVm()];
    await world.ssh(second, "true");
    const detour = `ip route add ${second.address}/32 via ${world.driver.gatewayAddress}; timeout 3 bash -c 'exec 3<>/dev/tcp/${second.address}/22'`;
    expect((await inNetworkOf(first.vmId, detour)).status).not.toBe(0);
  });

  it("cannot reach the host over IPv6", async () => {
    const vm = await world.createVm();
    const hello = "ip link set eth0 addrgenmode eui64; ip link set eth0 down; ip link set eth0 up; ping -6 -c 1 -W 2 ff02::1%eth0";
    expect((await inNetworkOf(vm.vmId, hello)).status).not.toBe(0);
  });
});
