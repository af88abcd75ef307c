import fc from "fast-check";
import { expect, test } from "vitest";
import { Networks } from "../../forwarder/networks.ts";
import { MAX_IDENTIFICATION_BYTES, MAX_TICKET_LINE_BYTES, readOpening } from "../../forwarder/opening.ts";
import { readProxyHeader } from "../../forwarder/proxy-protocol.ts";

const KEY = `ssh-ed25519 ${"A".repeat(68)}`;

test("an identification is recognised once its line is whole, and not before", () => {
  const line = Buffer.from("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\nrest");
  const end = line.indexOf("\n") + 1;
  for (let length = 1; length < end; length += 1) expect(readOpening(line.subarray(0, length)).kind).toBe("more");
  const ssh = { kind: "ssh", identification: "SSH-2.0-OpenSSH_9.2p1 Debian-2" };
  for (let length = end; length <= line.length; length += 1) {
    expect(readOpening(line.subarray(0, length))).toEqual({ ...ssh, rest: line.subarray(end, length) });
  }
});

test("a ticket line gives ticket, key and what follows, whole", () => {
  const opening = readOpening(Buffer.from(`POSTERN-TICKET a.b.c ${KEY}\nSSH-2.0-x\r\n`));
  expect(opening).toMatchObject({ kind: "ticket", ticket: "a.b.c", publicKey: KEY });
  expect(opening.kind === "ticket" && opening.rest.toString()).toBe("SSH-2.0-x\r\n");
});

test.each([
  ["GET / HTTP/1.1\r\n", "not-ssh"],
  ["\r\n\r\n\0\r\nQUIT\n", "not-ssh"],
  ["\x16\x03\x01", "not-ssh"],
  [`SSH-2.0-${"x".repeat(MAX_IDENTIFICATION_BYTES)}`, "too-long"],
  [`POSTERN-TICKET ${"x".repeat(MAX_TICKET_LINE_BYTES)}`, "too-long"],
  [`POSTERN-TICKET a.b.c ${KEY} more\n`, "ticket-line"],
  [`POSTERN-TICKET a.b ${KEY}\n`, "ticket-line"],
])("%j is refused at once", (text, reason) => {
  expect(readOpening(Buffer.from(text, "latin1"))).toEqual({ kind: "refused", reason });
});

test("what an opening is does not depend on how its bytes are cut", () => {
  const words = fc.constantFrom("SSH-", "2.0-x", "\r\n", "POSTERN-TICKET ", "a.b.c ", KEY, "\n", "junk");
  fc.assert(
    fc.property(fc.array(words), fc.uint8Array({ maxLength: 20 }), (parts, junk) => {
      const bytes = Buffer.concat([Buffer.from(parts.join("")), Buffer.from(junk)]);
      // Cut anywhere, a beginning is undecided or decided as the whole is.
      const whole = readOpening(bytes).kind;
      for (let length = 1; length < bytes.length; length += 1) {
        const { kind } = readOpening(bytes.subarray(0, length));
        if (kind !== "more") expect(kind).toBe(whole);
      }
    }),
  );
});

function header(command: number, family: number, body: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(body.length);
  return Buffer.concat([Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1"), Buffer.of(command, family), length, body]);
}

const IPV4 = Buffer.of(192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0, 22);
const IPV6 = Buffer.concat([Buffer.from("20010db8000000000000000000000007", "hex"), Buffer.alloc(16), Buffer.of(1, 2, 0, 22)]);

test.each([
  ["IPv4", header(0x21, 0x11, IPV4), "192.0.2.7"],
  ["IPv6", header(0x21, 0x21, IPV6), "2001:db8::7"],
  ["IPv4 with extensions", header(0x21, 0x11, Buffer.concat([IPV4, Buffer.of(4, 0, 1, 0)])), "192.0.2.7"],
  ["a health check", header(0x20, 0, Buffer.alloc(0)), null],
])("a PROXY header for %s gives the client's address and what follows", (_what, bytes, address) => {
  for (let length = 1; length < bytes.length; length += 1) expect(readProxyHeader(bytes.subarray(0, length)).kind).toBe("more");
  const read = readProxyHeader(Buffer.concat([bytes, Buffer.from("SSH-")]));
  expect(read).toMatchObject({ kind: "header", address });
  expect(read.kind === "header" && read.rest.toString()).toBe("SSH-");
});

test.each([
  ["another version", header(0x11, 0x11, IPV4)],
  ["an unknown command", header(0x22, 0x11, IPV4)],
  ["UDP", header(0x21, 0x12, IPV4)],
  ["a unix socket", header(0x21, 0x31, Buffer.alloc(216))],
  ["addresses cut short", header(0x21, 0x11, IPV4.subarray(0, 8))],
  ["more than a header may have", header(0x21, 0x11, Buffer.alloc(4_000))],
  ["version 1", Buffer.from("PROXY TCP4 192.0.2.7 10.0.0.1 1 22\r\n")],
  ["no header", Buffer.from("SSH-2.0-x\r\n")],
])("a PROXY header with %s is refused", (_what, bytes) => {
  expect(readProxyHeader(bytes)).toEqual({ kind: "refused" });
});

test("networks hold the addresses inside them, however a socket writes them", () => {
  const networks = new Networks("10.0.0.0/8, fd00::/8,192.0.2.7");
  for (const inside of ["10.255.0.1", "::ffff:10.1.2.3", "fd12::1", "192.0.2.7"]) expect(networks.has(inside), inside).toBe(true);
  for (const outside of ["11.0.0.1", "fe80::1", "192.0.2.8", "unknown"]) expect(networks.has(outside), outside).toBe(false);
  expect(new Networks("").has("127.0.0.1")).toBe(false);
  for (const bad of ["10.0.0.0/33", "nonsense", "10.0.0.0/", "fd00::/129", "10.0.0.0/8/8"]) {
    expect(() => new Networks(bad), bad).toThrow(RangeError);
  }
});
