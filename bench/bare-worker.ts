import { Hono } from "hono";

/** What the edge's processor time is held against: routes of the same framework, in the same workerd, that ask for no credential. */
const app = new Hono();
app.get("/bare", (c) => c.json({ ok: true }));
app.post("/forward/:vm", async (c) => {
  const host = new URL(c.req.url).searchParams.get("host") ?? "";
  const body = await c.req.text();
  return fetch(`${host}/bare/${c.req.param("vm")}`, { method: "POST", headers: { "content-type": "application/json" }, body });
});

export default app;
