import { expect, test } from "vitest";
import { Flights } from "../../forwarder/flights.ts";

/** Work that ends when told to, and notes whether it was given up. */
class Work {
  begun = 0;
  readonly givenUp: boolean[] = [];
  #end: (value: string) => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;

  readonly begin = (signal: AbortSignal): Promise<string> => {
    const index = this.begun;
    this.begun += 1;
    this.givenUp.push(false);
    signal.addEventListener("abort", () => {
      this.givenUp[index] = true;
    });
    return new Promise((resolve, reject) => {
      this.#end = resolve;
      this.#fail = reject;
    });
  };

  end(value: string): void {
    this.#end(value);
  }

  fail(error: Error): void {
    this.#fail(error);
  }
}

const staying = new AbortController().signal;

test("who comes while the work is under way gets its outcome, and who comes later has it done anew", async () => {
  const [flights, work] = [new Flights<string>(), new Work()];
  const both = [flights.join("a", staying, work.begin), flights.join("a", staying, work.begin)];
  work.end("first");
  expect(await Promise.all(both)).toEqual(["first", "first"]);
  const third = flights.join("a", staying, work.begin);
  work.end("second");
  expect(await third).toBe("second");
  expect(work.begun).toBe(2);
});

test("other names do not wait for it", async () => {
  const [flights, work, other] = [new Flights<string>(), new Work(), new Work()];
  void flights.join("a", staying, work.begin);
  const answered = flights.join("b", staying, other.begin);
  other.end("b");
  expect(await answered).toBe("b");
});

test("a failure is everybody's, and is not kept", async () => {
  const [flights, work] = [new Flights<string>(), new Work()];
  const both = [flights.join("a", staying, work.begin), flights.join("a", staying, work.begin)];
  work.fail(new Error("broken"));
  expect((await Promise.allSettled(both)).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  const next = flights.join("a", staying, work.begin);
  work.end("whole");
  expect(await next).toBe("whole");
});

test("one who leaves takes nothing from those who stay; when all have left it is given up, and never joined again", async () => {
  const [flights, work] = [new Flights<string>(), new Work()];
  const [first, second] = [new AbortController(), new AbortController()];
  void flights.join("a", first.signal, work.begin);
  void flights.join("a", second.signal, work.begin);
  first.abort();
  expect(work.givenUp).toEqual([false]);
  second.abort();
  expect(work.givenUp).toEqual([true]);
  const late = flights.join("a", staying, work.begin);
  expect(work.begun).toBe(2);
  work.end("late");
  expect(await late).toBe("late");
  expect(work.givenUp).toEqual([true, false]);
});

test("leaving after the end gives nothing up", async () => {
  const [flights, work, leaver] = [new Flights<string>(), new Work(), new AbortController()];
  const answered = flights.join("a", leaver.signal, work.begin);
  work.end("done");
  await answered;
  leaver.abort();
  expect(work.givenUp).toEqual([false]);
});
