import { createApp } from "./app.ts";

export { Account, Audit, BackgroundRequest, Identity, Region, SigningKeys, Snapshot, Vm } from "../durable-objects/index.ts";

/** The Worker: every request goes to the app. */
export default createApp();
