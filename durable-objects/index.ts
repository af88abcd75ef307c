/** The Durable Object classes, for the Worker's entry to export. */
export { Account } from "./account.ts";
export { Audit } from "./audit.ts";
export { BackgroundRequest } from "./background-request.ts";
export { Identity } from "./identity.ts";
export { Region } from "./region.ts";
export { SigningKeys } from "./signing-keys.ts";
export { Snapshot } from "./snapshot.ts";
export { Vm } from "./vm.ts";
