import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DriverError } from "../../host/driver.ts";
import { tarOf } from "../../host/drivers/tar.ts";
import { AddressBook } from "../../host/network/address-book.ts";
import {
  chooseNetwork,
  formatAddress,
  formatNetwork,
  GUEST_RANGE,
  networkNames,
  overlaps,
  parseAddress,
  parseNetwork,
  portOf,
} from "../../host/network/addressing.ts";
import { renderFirewall } from "../../host/network/firewall.ts";
import { guestNameservers } from "../../host/network/nameservers.ts";
import { run } from "./guest-world.ts";

const network = (text: string) => {
  const parsed = parseNetwork(text);
  if (parsed === null) throw new Error(text);
  return parsed;
};
const tag = fc.stringMatching(/^[0-9a-f]{8}$/);

describe("addresses", () => {
  it.each(["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "a.b.c.d", "1.2.3.-4", "1..2.3"])("refuses %j", (text) => {
    expect(parseAddress(text)).toBeNull();
  });

  it.each(["10.0.0.0/33", "10.0.0.0/8/8", "default", "fe80::/64", "10.0.0.0/x"])("refuses the network %j", (text) => {
    expect(parseNetwork(text)).toBeNull();
  });

  it("come back as they went in", () => {
    fc.assert(fc.property(fc.nat(2 ** 32 - 1), (value) => parseAddress(formatAddress(value)) === value));
  });
});

describe("a guests' network", () => {
  it("is the same for the same tag, and one agent's names fit in an interface name", () => {
    fc.assert(
      fc.property(tag, (some) => {
        const chosen = chooseNetwork(some, []);
        expect(chosen).toEqual(chooseNetwork(some, []));
        const { bridge, portPrefix } = networkNames(some);
        expect(bridge.length).toBeLessThanOrEqual(15);
        const last = formatAddress((chosen?.base ?? 0) + 4094);
        expect(portOf(portPrefix, network(formatNetwork(chosen ?? GUEST_RANGE)), last).length).toBeLessThanOrEqual(15);
      }),
    );
  });

  it("never overlaps a network in use", () => {
    const taken = fc.array(
      fc.record({ base: fc.integer({ min: 0x0a800000, max: 0x0affffff }), prefix: fc.integer({ min: 11, max: 32 }) }),
      {
        maxLength: 3,
      },
    );
    fc.assert(
      fc.property(tag, taken, (some, networks) => {
        const chosen = chooseNetwork(some, networks);
        return chosen !== null && overlaps(GUEST_RANGE, chosen) && !networks.some((other) => overlaps(other, chosen));
      }),
    );
  });

  it("is none when the whole range is in use", () => {
    expect(chooseNetwork("00000000", [network("10.0.0.0/8")])).toBeNull();
  });
});

describe("the address book", () => {
  it("gives no address twice, and none of network, gateway and broadcast", () => {
    const book = new AddressBook(network("10.128.0.0/28"));
    const given = Array.from({ length: 13 }, (_, index) => book.assign(`vm${index}`));
    expect(new Set(given).size).toBe(13);
    expect(given).not.toEqual(expect.arrayContaining(["10.128.0.0"]));
    expect(given).not.toEqual(expect.arrayContaining(["10.128.0.1"]));
    expect(given).not.toEqual(expect.arrayContaining(["10.128.0.15"]));
    expect(() => book.assign("one too many")).toThrow(DriverError);
  });

  it("does not give a freed address to the next machine while others are free", () => {
    const book = new AddressBook(network("10.128.0.0/28"));
    const freed = book.assign("first");
    book.release("first");
    expect(book.vmAt(freed)).toBeNull();
    expect(book.assign("second")).not.toBe(freed);
  });
});

describe("resolvers of guests", () => {
  it("leave out the host's loopback and IPv6", () => {
    const conf =
      "# nameserver 9.9.9.9\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.2\n nameserver 1.1.1.1\nsearch lan\n";
    expect(guestNameservers(conf)).toEqual(["10.0.0.2", "1.1.1.1"]);
    expect(guestNameservers("")).toEqual([]);
  });
});

describe("the firewall", () => {
  const state = {
    ...networkNames("deadbeef"),
    network: "10.128.16.0/20",
    gateway: "10.128.16.1",
    metadataPort: null,
    nameservers: [],
    ports: [],
  };

  it("is a transaction that nft accepts, empty and full", async () => {
    const port = { name: "pvdeadbeef0002", mac: "02:50:0a:80:10:02", address: "10.128.16.2", internet: true };
    const offline = { ...port, name: "pvdeadbeef0003", address: "10.128.16.3", internet: false };
    const full = { ...state, metadataPort: 8080, nameservers: ["192.0.2.53", "192.0.2.54"], ports: [port, offline] };
    for (const some of [state, full]) {
      expect(await run("nft", ["--check", "-f", "-"], renderFirewall(some))).toMatchObject({ status: 0, stderr: "" });
    }
  });

  it("opens no port of the host before metadata is routed", () => {
    expect(renderFirewall(state)).not.toMatch(/dport \d+ accept/);
    expect(renderFirewall(state)).not.toContain("dnat");
  });
});

describe("seed files", () => {
  it("reach tar with path, mode, owner and bytes", async () => {
    const archive = tarOf([{ path: "/etc/ssh/key", mode: 0o600, content: "é\n" }], 1_000_000_000);
    const listed = await run("bash", ["-c", "base64 -d | tar --numeric-owner -tvf -"], archive.toString("base64"));
    expect(listed.stdout).toMatch(/^-rw------- 0\/0\s+3 2001-09-09 .* etc\/ssh\/key\n$/);
  });

  it("are refused when their path does not fit", () => {
    expect(() => tarOf([{ path: `/${"x".repeat(101)}`, mode: 0o600, content: "" }], 0)).toThrow("over 100 bytes");
  });
});
