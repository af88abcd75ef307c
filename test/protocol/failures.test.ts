import fc from "fast-check";
import { expect, test } from "vitest";
import { FAILURES, failure, isFailure } from "../../protocol/failures.ts";
import { feedDownstream, feedUpstream } from "../../protocol/feed.ts";
import { sessionCheckRequest, sshTicketRequest } from "../../protocol/service-api.ts";

test("every kind of failure survives the wire, and nothing else passes as one", () => {
  for (const kind of Object.keys(FAILURES) as (keyof typeof FAILURES)[]) {
    const made = failure(kind, "why", { allowedUsers: ["a"] });
    expect(isFailure(JSON.parse(JSON.stringify(made.failure)))).toBe(true);
  }
  for (const value of [
    null,
    1,
    "x",
    [],
    {},
    { kind: "toString", message: "x" },
    { kind: "forbidden" },
    { kind: "forbidden", message: 1 },
  ]) {
    expect(isFailure(value)).toBe(false);
  }
  fc.assert(
    fc.property(fc.anything(), (value) => {
      expect(isFailure(value)).toBe(false);
    }),
  );
});

test("a status is one that says an error, in both dialects", () => {
  for (const { v1, v5 } of Object.values(FAILURES)) {
    for (const [, status] of [v1, v5]) expect(status >= 400 && status < 600).toBe(true);
  }
});

test("whatever comes over the feed, reading it gives a known message or none", () => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      const value: unknown = JSON.parse(text);
      expect(feedDownstream.safeParse(value).success && feedUpstream.safeParse(value).success).toBe(false);
    }),
  );
});

test("a ticket request asks for a fresh read only when it says so", () => {
  const asked = { vmId: "v", linuxUser: null, token: "t", forwarderId: "a".repeat(16), clientAddress: "::1" };
  expect(sshTicketRequest.parse(asked).fresh).toBe(false);
  expect(sshTicketRequest.safeParse({ ...asked, token: "t".repeat(257) }).success).toBe(false);
  expect(sshTicketRequest.safeParse({ ...asked, forwarderId: "A" }).success).toBe(false);
});

test("a session check names a subject of a known form", () => {
  const asked = { vmId: "v", linuxUser: "root", operation: "ssh", credentialId: "c" };
  expect(sessionCheckRequest.safeParse({ ...asked, subject: `identity:${"a".repeat(16)}` }).success).toBe(true);
  expect(sessionCheckRequest.safeParse({ ...asked, subject: "identity:../x" }).success).toBe(false);
});
