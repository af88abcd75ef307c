import fc from "fast-check";
import { expect, test } from "vitest";
import { GlobalReplies } from "../../forwarder/global-replies.ts";

test("replies reach the client in the order of its requests, whoever answers them and however late the VM is", () => {
  // true: a request that the VM answers; false: one answered here; "reply": the VM answers its oldest open request.
  const steps = fc.array(fc.constantFrom("vm" as const, "own" as const, "reply" as const), { maxLength: 200 });
  fc.assert(
    fc.property(steps, (sequence) => {
      const replies = new GlobalReplies();
      const asked: string[] = [];
      const open: string[] = [];
      const got: string[] = [];
      const reply = () => {
        const oldest = open.shift();
        if (oldest === undefined) return;
        got.push(oldest, ...replies.replied().map(String));
      };
      for (const [index, step] of sequence.entries()) {
        const name = `${step}-${index}`;
        if (step === "reply") {
          reply();
          continue;
        }
        asked.push(name);
        if (step === "own") got.push(...replies.answered(Buffer.from(name)).map(String));
        else {
          replies.passedOn();
          open.push(name);
        }
      }
      while (open.length > 0) reply();
      expect(got).toEqual(asked);
    }),
  );
});

test("a VM that replies to what nobody asked does not bring our answers out of order", () => {
  const replies = new GlobalReplies();
  expect(replies.replied()).toEqual([]);
  replies.passedOn();
  expect(replies.answered(Buffer.from("own"))).toEqual([]);
  expect(replies.replied().map(String)).toEqual(["own"]);
});
