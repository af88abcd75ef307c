import type { HostSettings } from "./settings.ts";

/** The settings of a host agent as each of its parts names them. */

export function guestLimits(settings: HostSettings) {
  return {
    timeoutMs: settings.POSTERN_GUEST_LOGIN_TIMEOUT_MS,
    keepaliveMs: settings.POSTERN_GUEST_KEEPALIVE_MS,
    idleMs: settings.POSTERN_GUEST_IDLE_MS,
    channels: settings.POSTERN_GUEST_CHANNELS,
    operations: settings.POSTERN_VM_OPERATIONS,
    waiting: settings.POSTERN_VM_WAITING,
  };
}

export function jobLimits(settings: HostSettings) {
  return {
    keepMs: settings.POSTERN_JOB_KEEP_MS,
    perVm: settings.POSTERN_VM_JOBS,
    resultBytes: settings.POSTERN_JOB_RESULT_BYTES,
  };
}

export function guestHttpLimits(settings: HostSettings) {
  return {
    perVm: settings.POSTERN_VM_VISITS,
    connectMs: settings.POSTERN_TUNNEL_CONNECT_TIMEOUT_MS,
    answerMs: settings.POSTERN_GUEST_ANSWER_MS,
    idleMs: settings.POSTERN_GUEST_SILENCE_MS,
    bootMs: settings.POSTERN_GUEST_PORT_BOOT_MS,
    pollMs: settings.POSTERN_GUEST_PORT_POLL_MS,
    keepMs: settings.POSTERN_GUEST_CONNECTION_KEEP_MS,
    keepaliveMs: settings.POSTERN_TUNNEL_KEEPALIVE_MS,
  };
}

export function execLimits(settings: HostSettings) {
  return {
    timeoutMs: settings.POSTERN_EXEC_TIMEOUT_MS,
    maxTimeoutMs: settings.POSTERN_EXEC_MAX_TIMEOUT_MS,
    outputBytes: settings.POSTERN_EXEC_OUTPUT_BYTES,
    drainMs: settings.POSTERN_EXEC_DRAIN_MS,
    killGraceMs: settings.POSTERN_EXEC_KILL_GRACE_MS,
  };
}

export function uploadLimits(settings: HostSettings) {
  return {
    maxBytes: settings.POSTERN_FILE_BYTES,
    chunkBytes: settings.POSTERN_UPLOAD_CHUNK_BYTES,
    idleMs: settings.POSTERN_BODY_IDLE_MS,
    perVm: settings.POSTERN_VM_UPLOADS,
    keepMs: settings.POSTERN_UPLOAD_KEEP_MS,
  };
}

export function watchLimits(settings: HostSettings) {
  return {
    perVm: settings.POSTERN_VM_WATCHES,
    startMs: settings.POSTERN_WATCH_START_MS,
    pingMs: settings.POSTERN_WATCH_PING_MS,
  };
}

export function httpOptions(settings: HostSettings) {
  return {
    headersTimeout: settings.POSTERN_HEADERS_TIMEOUT_MS,
    requestTimeout: settings.POSTERN_REQUEST_TIMEOUT_MS,
    keepAliveTimeout: settings.POSTERN_HTTP_KEEPALIVE_MS,
  };
}
