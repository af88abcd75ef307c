import { createApp } from "./app.ts";

export { Account, Identity, Region, SigningKeys, Vm } from "../durable-objects/index.ts";

/** The Worker: every request goes to the app. */
export default createApp();
