import { Hono } from "hono";

/** What the edge's processor time is held against: routes of the same framework, in the same workerd, that ask for no credential. */
const app = new Hono();
/** What the host is shown with every call. */
let authorization = "";
app.get("/bare", (c) => c.json({ ok: true }));
app.put("/authorization", async (c) => {
  authorization = await c.req.text();
  return c.body(null, 204);
});
app.post("/forward/:vm", async (c) => {
  const host = new URL(c.req.url).searchParams.get("host") ?? "";
  const body = await c.req.text();
  return fetch(`${host}/vms/${c.req.param("vm")}/exec`, {
    method: "POST",
    headers: { authorization, "content-type": "application/json" },
    body,
  });
});

export default app;
