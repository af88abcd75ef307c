import fc from "fast-check";
import { expect, test } from "vitest";
import { type Attempt, LoginAttempts } from "../../forwarder/login.ts";
import { printable } from "../../forwarder/text.ts";
import { failure } from "../../protocol/failures.ts";

const VM = "a".repeat(20);
const refusing = () => Promise.resolve(failure("credential-invalid", "no"));

test("whatever a stranger sends, at most the allowed attempts reach a decision", async () => {
  const attempt: fc.Arbitrary<Attempt> = fc.oneof(
    fc.record({ user: fc.constantFrom(VM, `${VM}:x`, "bad"), method: fc.constantFrom("none" as const, "other" as const) }),
    fc.record({
      user: fc.constantFrom(VM, `${VM}+dev,x`, "bad"),
      method: fc.constantFrom("password" as const, "keyboard-interactive" as const),
      secret: fc.string(),
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(attempt, { maxLength: 20 }), async (attempts) => {
      let decisions = 0;
      const login = new LoginAttempts(() => {
        decisions += 1;
        return refusing();
      }, 6);
      for (const each of attempts) expect((await login.decide(each)).action).not.toBe("accept");
      expect(decisions).toBeLessThanOrEqual(6);
    }),
  );
});

test("the method none decides nothing for a name without a token, however often it is tried", async () => {
  let decisions = 0;
  const login = new LoginAttempts(() => {
    decisions += 1;
    return refusing();
  }, 3);
  const steps = [];
  for (let index = 0; index < 4; index += 1) steps.push((await login.decide({ user: VM, method: "none" })).action);
  expect(steps).toEqual(["refuse", "refuse", "refuse", "disconnect"]);
  expect(decisions).toBe(0);
});

test("an empty secret is refused without a decision", async () => {
  const login = new LoginAttempts(() => Promise.reject(new Error("asked")), 6);
  const step = await login.decide({ user: VM, method: "password", secret: "" });
  expect(step).toEqual({ action: "refuse", methods: ["password", "keyboard-interactive"], banner: null });
});

test("the last allowed attempt is refused by ending the connection, with the reason", async () => {
  const login = new LoginAttempts(refusing, 1);
  const step = await login.decide({ user: VM, method: "password", secret: "x" });
  expect(step).toEqual({ action: "disconnect", text: "no Too many login attempts." });
});

test("only a name without a token is asked for one", () => {
  const login = new LoginAttempts(refusing, 6);
  expect([VM, `${VM}+dev`, `${VM}:x`, "bad"].map((user) => login.needsAnswer(user))).toEqual([true, true, false, false]);
});

test("a message is one line of printable characters, whatever it was made of", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 2000 }), (text) => {
      const shown = printable(text);
      expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      expect(shown.length).toBeLessThanOrEqual(500);
    }),
  );
});
