/** Wishes about a machine that only its host can grant, by the member of `CreateMachine` that carries each. */
export type MachineWish = "resources" | "files" | "idleTimeoutSeconds" | "activityThresholdBytes" | "noInternet" | "snapshotId";

/**
 * The one place that says what the hosts of this deployment grant. A dialect refuses what is not granted by the name under
 * which its client sent it, since nothing that is asked for may be dropped in silence.
 */
export const HONOURED: Readonly<Record<MachineWish, boolean>> = {
  resources: true,
  files: true,
  idleTimeoutSeconds: true,
  activityThresholdBytes: true,
  noInternet: true,
  snapshotId: true,
};

/** What a refusal says after the name of the member. */
export const NOT_OFFERED = "is not offered here: leave it out";
