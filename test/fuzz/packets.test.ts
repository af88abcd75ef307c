import fc from "fast-check";
import { expect, test } from "vitest";
import { parseHostCertificate } from "../../forwarder/host-certificate.ts";
import { ANNOUNCE_HOST_KEYS, HostKeyRing } from "../../forwarder/host-key-proof.ts";
import { MAX_IDENTIFICATION_BYTES, readOpening } from "../../forwarder/opening.ts";
import { Packet } from "../../forwarder/packet.ts";
import { MAX_PROXY_HEADER_BYTES, readProxyHeader } from "../../forwarder/proxy-protocol.ts";
import { Splice } from "../../forwarder/splice.ts";
import { globalRequestName } from "../../forwarder/ssh-messages.ts";
import { readStrings } from "../../forwarder/ssh-wire.ts";
import { parseHostKeyLine } from "../../forwarder/target.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair, parseSshPublicKey } from "../../service/ssh-keys.ts";
import { MemoryLeg } from "../forwarder/support/memory-leg.ts";
import { FUZZ_RUNS, mutated } from "./support/mutations.ts";

const runs = { numRuns: FUZZ_RUNS };
const LIMITS = { wakeQueueBytes: 400, highWaterBytes: 400 };

type Step =
  | { readonly do: "client" | "target"; readonly payload: Buffer }
  | { readonly do: "join" | "refuse" | "drain" | "answer" };

test("whatever packets come in whatever order, the splice neither throws nor holds more than it may", () => {
  const packet = mutated("packets").filter((bytes) => bytes.length > 0);
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 8, arbitrary: fc.record({ do: fc.constantFrom("client" as const, "target" as const), payload: packet }) },
    { weight: 2, arbitrary: fc.constantFrom<Step>({ do: "join" }, { do: "refuse" }, { do: "drain" }, { do: "answer" }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const client = new MemoryLeg();
      const target = new MemoryLeg();
      const splice = new Splice(client, LIMITS);
      let settled = false;
      for (const now of steps) {
        if (now.do === "client" && !client.paused) splice.fromClient(Packet.ofPayload(now.payload));
        else if (now.do === "target" && !target.paused) splice.fromTarget(Packet.ofPayload(now.payload));
        else if (now.do === "answer") splice.answer(Buffer.of(82));
        else if (now.do === "drain") {
          client.drain();
          target.drain();
        } else if (!settled && (now.do === "join" || now.do === "refuse")) {
          settled = true;
          if (now.do === "join") splice.join(target);
          else splice.refuse("no VM");
        }
      }
      for (const payload of client.sent) expect(globalRequestName(payload)).not.toBe(ANNOUNCE_HOST_KEYS);
    }),
    runs,
  );
});

test("whatever is asked of the host keys, nothing is signed for a key that is not ours", () => {
  const pair = generateSshKeyPair(platformRandomBytes);
  const ring = new HostKeyRing([pair.privateKey]);
  const context = { sessionId: Buffer.alloc(32, 7), hostKeyAlgorithm: "ssh-ed25519" };
  fc.assert(
    fc.property(mutated("packets"), (request) => {
      const [type] = ring.prove(request, context);
      expect(type).toBe(82);
    }),
    runs,
  );
});

test("whatever a connection begins with, it is decided within the bounds", () => {
  fc.assert(
    fc.property(mutated("opening"), (bytes) => {
      const opening = readOpening(bytes);
      if (opening.kind === "more") expect(bytes.length).toBeLessThan(4_096);
      if (opening.kind === "ssh") expect(bytes.indexOf(10)).toBeLessThan(MAX_IDENTIFICATION_BYTES);
      const header = readProxyHeader(bytes);
      if (header.kind === "more") expect(bytes.length).toBeLessThan(MAX_PROXY_HEADER_BYTES);
      if (header.kind === "header") expect(header.address ?? "::").toMatch(/^[0-9a-f.:]+$/);
    }),
    runs,
  );
});

test("whatever passes for a key or certificate line, nothing throws and nothing beside the key is kept", () => {
  const { blob } = parseSshPublicKey(generateSshKeyPair(platformRandomBytes).publicKey) ?? { blob: Buffer.alloc(0) };
  fc.assert(
    fc.property(mutated("key-lines"), (bytes) => {
      const text = bytes.toString("latin1");
      const key = parseSshPublicKey(text);
      if (key !== null) expect(text).toBe(key.line);
      const pinned = parseHostKeyLine(text);
      if (pinned !== null) expect(pinned.blob.includes(pinned.type)).toBe(true);
      expect(parseHostCertificate(text, "ssh-ed25519", blob)).toBeNull();
      const strings = readStrings(bytes, 0);
      if (strings !== null) expect(strings.reduce((sum, part) => sum + 4 + part.length, 0)).toBe(bytes.length);
    }),
    runs,
  );
});
