import { describe, expect, it } from "vitest";
import { idRangeFrom, idRangeOf } from "../../host/drivers/id-ranges.ts";
import { formatAddress, type Network } from "../../host/network/addressing.ts";

const network: Network = { base: 0x0a80_0000, prefix: 20 };
const rangeAt = (place: number) => idRangeOf(network, formatAddress(network.base + place));

describe("the ids of guests", () => {
  it("are above all that the host hands out, and within 31 bits, for the first and the last address", () => {
    expect(rangeAt(0).first).toBe(0x7000_0000);
    expect(rangeAt(4_095).first + rangeAt(4_095).size - 1).toBe(0x7fff_ffff);
  });

  it("of two addresses are never the same", () => {
    for (let place = 1; place < 4_096; place += 1) {
      expect(rangeAt(place).first).toBeGreaterThanOrEqual(rangeAt(place - 1).first + rangeAt(place - 1).size);
    }
  });

  it.each(["10.127.255.255", "10.128.16.0", "nonsense", ""])("are refused to %j, which is no guest's address", (address) => {
    expect(() => idRangeOf(network, address)).toThrow("is not an address of the guests' network");
  });

  it("are read back from a machine's label, and a machine without one has the host's", () => {
    expect(idRangeFrom(String(rangeAt(7).first))).toEqual(rangeAt(7));
    for (const label of ["", "-1", "1e9", "0x70000000", "70000000000"]) expect(idRangeFrom(label)).toBeNull();
  });
});
