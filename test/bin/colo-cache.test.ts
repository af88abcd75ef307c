import { afterEach, expect, test, vi } from "vitest";
import cache from "../../bin/start/colo-cache.ts";

afterEach(() => {
  vi.useRealTimers();
});

const URL_OF = (name: string) => `https://verdicts.postern.invalid/v1/${name}`;
const get = (name: string) => cache.fetch(new Request(URL_OF(name)));
const put = (name: string, message: string) => cache.fetch(new Request(URL_OF(name), { method: "PUT", body: message }));
const message = (body: string, headers = "cache-control: max-age=60") =>
  `HTTP/1.1 200 OK\r\n${headers}\r\ncontent-type: application/json\r\n\r\n${body}`;

test("what was entered is found until its age is over", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  expect((await put("a", message('{"n":1}'))).status).toBe(204);
  const found = await get("a");
  expect([found.headers.get("cf-cache-status"), await found.text()]).toEqual(["HIT", '{"n":1}']);
  vi.setSystemTime(Date.now() + 60_000);
  expect((await get("a")).headers.get("cf-cache-status")).toBe("MISS");
});

test("a body in chunks is put together", async () => {
  await put("chunked", message('4\r\n{"n"\r\n3\r\n:2}\r\n0\r\n\r\n', "cache-control: max-age=60\r\ntransfer-encoding: chunked"));
  expect(await (await get("chunked")).text()).toBe('{"n":2}');
});

test("what nobody entered, or was purged, is a miss", async () => {
  await put("b", message("{}"));
  const purge = () => cache.fetch(new Request(URL_OF("b"), { method: "PURGE" }));
  expect([(await purge()).status, (await purge()).status]).toEqual([200, 404]);
  for (const name of ["b", "never"]) expect((await get(name)).headers.get("cf-cache-status")).toBe("MISS");
});

test.each([
  ["no age", message("{}", "x: y"), 400],
  ["no body", "HTTP/1.1 200 OK", 400],
  ["too much", message(`"${"x".repeat(20_000)}"`), 413],
])("an entry with %s is refused", async (_what, text, status) => {
  expect((await put("c", text)).status).toBe(status);
  expect((await get("c")).headers.get("cf-cache-status")).toBe("MISS");
});

test("memory is bounded: the oldest entries go", async () => {
  for (let index = 0; index <= 10_000; index += 1) await put(`many-${index}`, message("{}"));
  expect((await get("many-0")).headers.get("cf-cache-status")).toBe("MISS");
  expect((await get("many-10000")).headers.get("cf-cache-status")).toBe("HIT");
});
