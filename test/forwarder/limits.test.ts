import fc from "fast-check";
import { expect, test } from "vitest";
import { addressGroup, ConnectionGate, type ConnectionLimits, type Place } from "../../forwarder/limits.ts";

const LIMITS: ConnectionLimits = {
  maxConnections: 10,
  maxPerAddress: 5,
  unauthenticatedStart: 3,
  unauthenticatedFull: 6,
  unauthenticatedPerAddress: 4,
};
const never = () => 0.999;
const always = () => 0;

function fill(gate: ConnectionGate, count: number, address = (index: number) => `192.0.2.${index}`): (Place | null)[] {
  return Array.from({ length: count }, (_, index) => gate.admit(address(index)));
}

test("above the start new unauthenticated connections are dropped at random, and all of them when full", () => {
  expect(fill(new ConnectionGate(LIMITS, always), 9).filter((place) => place !== null)).toHaveLength(3);
  expect(fill(new ConnectionGate(LIMITS, never), 9).filter((place) => place !== null)).toHaveLength(6);
});

test("a login frees an unauthenticated place but not the address's own", () => {
  const gate = new ConnectionGate(LIMITS, never);
  const one = () => "192.0.2.1";
  for (const place of fill(gate, 4, one)) place?.loggedIn();
  expect(gate.admit("192.0.2.1")).not.toBeNull();
  expect(gate.admit("192.0.2.1")).toBeNull();
  expect(gate.admit("192.0.2.2")).not.toBeNull();
});

test("one address cannot hold every unauthenticated place", () => {
  const gate = new ConnectionGate(LIMITS, never);
  expect(fill(gate, 6, () => "192.0.2.1").filter((place) => place !== null)).toHaveLength(4);
  expect(gate.admit("192.0.2.2")).not.toBeNull();
});

test("whatever comes and goes, no bound is passed and nothing is left behind", () => {
  const step = fc.tuple(fc.constantFrom("come", "login", "leave"), fc.nat(3));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const gate = new ConnectionGate(LIMITS, never);
      const places: Place[] = [];
      for (const [what, which] of steps) {
        const place = what === "come" ? gate.admit(`192.0.2.${which}`) : places[which];
        if (what === "come" && place) places.push(place);
        if (what === "login") place?.loggedIn();
        if (what === "leave") place?.release();
        expect(gate.connections).toBeLessThanOrEqual(LIMITS.maxConnections);
      }
      for (const place of places) {
        place.release();
        place.release();
      }
      expect(gate.connections).toBe(0);
      expect(fill(gate, 6).filter((place) => place !== null)).toHaveLength(6);
    }),
  );
});

test.each([
  ["192.0.2.7", "192.0.2.7"],
  ["::ffff:192.0.2.7", "192.0.2.7"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:db8:1:2::9", "2001:db8:1:2::/64"],
  ["2001:0db8:0001:0002::", "2001:db8:1:2::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["unknown", "unknown"],
])("%s is counted as %s", (address, group) => {
  expect(addressGroup(address)).toBe(group);
});
