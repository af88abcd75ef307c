import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { json, startTestHost, type TestHost } from "./support/test-host.ts";

/** One that nobody else on the machine writes files as: the test's guest shares most of its root with the machine. */
const UID = 54_321;

let host: TestHost;
let vm: string;
beforeAll(async () => {
  host = await startTestHost();
  vm = await host.createVm({ users: [{ name: "developer", uid: UID }] });
}, 60_000);
afterAll(() => host.close());

const ROOT = "/home/developer/tried";
const RUNS = { numRuns: 60 };

/** Names and ends of paths that somebody would get wrong. */
const piece = fc.oneof(
  fc.constantFrom(
    "/",
    "//",
    ".",
    "%2F",
    "%2e%2e",
    "%",
    "\0",
    "+",
    " ",
    "#",
    "?",
    "&",
    "=",
    "-rf",
    "*",
    "$(id)",
    "'",
    '"',
    "\\",
    "\n",
    "ü",
    "🦊",
  ),
  fc.string({ unit: "grapheme", maxLength: 6 }),
  fc.constantFrom("x".repeat(255), "y".repeat(4000)),
);
const insidePath = fc.array(piece, { minLength: 1, maxLength: 6 }).map((pieces) => `${ROOT}/${pieces.join("")}`);
const climbingPath = fc
  .array(fc.oneof(piece, fc.constantFrom("/..", "/../..", "/../../../etc/shadow", "/../../../root/")), {
    minLength: 1,
    maxLength: 6,
  })
  .map((pieces) => `${ROOT}/${pieces.join("")}`);

const files = (method: string, path: string, route = "", init: RequestInit = {}) =>
  host.request(method, `/vms/${vm}/files${route}?path=${encodeURIComponent(path)}`, { vm, user: "developer", op: "files" }, init);
const isRefusal = ({ status }: Response) => status >= 400 && status < 500;
const exec = async (command: string, env: Record<string, string> = {}) => {
  const answer = await host.exec(vm, "root", { command, env });
  return ((await answer.json()) as { stdout: string }).stdout;
};

test("a path arrives as it was sent, or is refused with a client's error and leaves nothing", async () => {
  let written = 0;
  await fc.assert(
    fc.asyncProperty(insidePath, async (path) => {
      await exec(`rm -rf ${ROOT}; mkdir ${ROOT}; chown developer ${ROOT}`);
      const put = await files("PUT", path, "", { body: path });
      if (!put.ok) {
        expect(isRefusal(put), `${put.status} for ${JSON.stringify(path)}`).toBe(true);
        expect(await exec(`find ${ROOT} -type f | wc -l`)).toBe("0\n");
        return;
      }
      written += 1;
      expect(await exec('stat -c %U -- "$WHERE"; cat -- "$WHERE"', { WHERE: path })).toBe(`developer\n${path}`);
      expect(await (await files("GET", path)).text()).toBe(path);
      expect((await files("DELETE", path)).status).toBe(200);
      expect(await exec(`find ${ROOT} -type f | wc -l`)).toBe("0\n");
    }),
    RUNS,
  );
  expect(written).toBeGreaterThan(0);
}, 120_000);

// Nothing is removed here: the test's guest shares most of its root with the machine that runs the test.
test("however a path climbs, nothing that is not the user's is read, written or made", async () => {
  const spared = ["/proc/*", "/home/developer*", "/tmp/*", "/var/tmp/*", "/dev/*"].map((path) => `-not -path '${path}'`).join(" ");
  const rootsFiles = `find / -xdev -newer /run/mark -user developer ${spared}`;
  await exec(`rm -rf ${ROOT}; mkdir ${ROOT}; chown developer ${ROOT}; chmod 700 /root; touch /root/kept /run/mark`);
  await fc.assert(
    fc.asyncProperty(climbingPath, fc.constantFrom("PUT", "GET", "POST"), async (path, method) => {
      const init = method === "PUT" ? { body: "x" } : {};
      const answer = await files(method, path, method === "POST" ? "/directory" : "", init);
      expect(answer.ok || isRefusal(answer), `${answer.status} for ${method} ${JSON.stringify(path)}`).toBe(true);
      if (method === "GET" && answer.ok) expect(await answer.text()).not.toContain("$y$");
    }),
    RUNS,
  );
  expect(await exec("ls /root/kept; head -c 4 /etc/shadow")).toBe("/root/kept\nroot");
  expect(await exec(rootsFiles)).toBe("");
}, 120_000);

test("an upload in pieces treats the same paths the same", async () => {
  await exec(`rm -rf ${ROOT}; mkdir ${ROOT}; chown developer ${ROOT}`);
  await fc.assert(
    fc.asyncProperty(insidePath, async (path) => {
      const claims = { vm, user: "developer", op: "files" } as const;
      const begun = await host.request("POST", `/vms/${vm}/uploads`, claims, json({ path, size: 0 }));
      if (!begun.ok) {
        expect(isRefusal(begun), `${begun.status} for ${JSON.stringify(path)}`).toBe(true);
        return;
      }
      const { uploadId, path: told } = (await begun.json()) as { uploadId: string; path: string };
      expect(told).toBe(path);
      expect((await host.request("DELETE", `/vms/${vm}/uploads/${uploadId}`, claims)).status).toBe(200);
    }),
    RUNS,
  );
  expect(await exec(`find ${ROOT} -name '.postern-*' | wc -l`)).toBe("0\n");
}, 120_000);
