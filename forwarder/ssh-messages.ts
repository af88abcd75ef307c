import { string, uint32 } from "./ssh-wire.ts";

/** SSH message payloads that the forwarder itself writes or looks into (RFC 4250 section 4.1). Everything else is only copied. */
export const SSH_MESSAGE = {
  DISCONNECT: 1,
  IGNORE: 2,
  DEBUG: 4,
  USERAUTH_BANNER: 53,
  GLOBAL_REQUEST: 80,
  REQUEST_SUCCESS: 81,
  REQUEST_FAILURE: 82,
  CHANNEL_OPEN: 90,
  CHANNEL_OPEN_CONFIRMATION: 91,
  CHANNEL_OPEN_FAILURE: 92,
  CHANNEL_DATA: 94,
  CHANNEL_EXTENDED_DATA: 95,
  CHANNEL_EOF: 96,
  CHANNEL_CLOSE: 97,
  CHANNEL_REQUEST: 98,
} as const;

/** Reason codes of DISCONNECT (RFC 4253 section 11.1). */
export const DISCONNECT_REASON = {
  PROTOCOL_ERROR: 2,
  SERVICE_NOT_AVAILABLE: 7,
  CONNECTION_LOST: 10,
  BY_APPLICATION: 11,
  NO_MORE_AUTH_METHODS: 14,
} as const;
export type DisconnectReason = (typeof DISCONNECT_REASON)[keyof typeof DISCONNECT_REASON];

const STDERR = 1;
const CONNECT_FAILED = 2;
const PACKET_SIZE = 32_768;

/** Whether a message belongs to the connection protocol (types 80–127), which is what a splice copies. */
export function isConnectionMessage(type: number): boolean {
  return type >= 80 && type <= 127;
}

/** RFC 4253 section 11.1. */
export function disconnectMessage(reason: DisconnectReason, text: string): Buffer {
  return Buffer.concat([Buffer.of(SSH_MESSAGE.DISCONNECT), uint32(reason), string(text), string("")]);
}

/** RFC 4253 section 11.2. */
export function ignoreMessage(): Buffer {
  return Buffer.concat([Buffer.of(SSH_MESSAGE.IGNORE), string("")]);
}

/** RFC 4253 section 11.3, marked for display. */
export function debugMessage(text: string): Buffer {
  return Buffer.concat([Buffer.of(SSH_MESSAGE.DEBUG, 1), string(text), string("")]);
}

/** RFC 4252 section 5.4. */
export function bannerMessage(text: string): Buffer {
  return Buffer.concat([Buffer.of(SSH_MESSAGE.USERAUTH_BANNER), string(`${text}\r\n`), string("")]);
}

/** Refuses a global request (RFC 4254 section 4). */
export function requestFailureMessage(): Buffer {
  return Buffer.of(SSH_MESSAGE.REQUEST_FAILURE);
}

/** The name of a global request (RFC 4254 section 4), or null for any other or a malformed message. */
export function globalRequestName(payload: Uint8Array): string | null {
  return payload[0] === SSH_MESSAGE.GLOBAL_REQUEST ? readName(payload) : null;
}

/** Whether a global request wants a reply; false for any other or a malformed message. */
export function wantsGlobalReply(payload: Uint8Array): boolean {
  const name = globalRequestName(payload);
  return name !== null && payload[5 + name.length] !== 0 && payload.length > 5 + name.length;
}

/**
 * Bounds the packets that a side may be sent (RFC 4254 section 5.1): some clients allow far more than `ssh2` reads
 * (35,000 bytes). Any message but an opening or its confirmation comes back as it is.
 */
export function boundPacketSize(payload: Uint8Array): Uint8Array {
  const at = packetSizeOffset(payload);
  if (at === null || payload.length < at + 4) return payload;
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  if (bytes.readUInt32BE(at) <= PACKET_SIZE) return payload;
  const bounded = Buffer.from(bytes);
  bounded.writeUInt32BE(PACKET_SIZE, at);
  return bounded;
}

/** Where the maximum packet size is: after the numbers of the channel's ends and the window. */
function packetSizeOffset(payload: Uint8Array): number | null {
  if (payload[0] === SSH_MESSAGE.CHANNEL_OPEN_CONFIRMATION) return 13;
  if (payload[0] !== SSH_MESSAGE.CHANNEL_OPEN) return null;
  const type = readName(payload);
  return type === null ? null : 13 + type.length;
}

/** Whether this is the reply to a global request. */
export function isGlobalReply(type: number): boolean {
  return type === SSH_MESSAGE.REQUEST_SUCCESS || type === SSH_MESSAGE.REQUEST_FAILURE;
}

/**
 * The answers that refuse a CHANNEL_OPEN readably: a session gets `text` on its standard error and exit status 255, any
 * other channel is refused with `text`. Empty for any other message. `ownChannel` numbers our end of a session.
 */
export function refuseChannel(payload: Uint8Array, text: string, ownChannel: number): Buffer[] {
  if (payload[0] !== SSH_MESSAGE.CHANNEL_OPEN) return [];
  const name = readName(payload);
  const senderAt = 5 + (name?.length ?? 0);
  if (name === null || payload.length < senderAt + 4) return [];
  const channel = Buffer.from(payload.subarray(senderAt, senderAt + 4));
  if (name !== "session") {
    return [
      Buffer.concat([Buffer.of(SSH_MESSAGE.CHANNEL_OPEN_FAILURE), channel, uint32(CONNECT_FAILED), string(text), string("")]),
    ];
  }
  return [
    // No window: what the client would send has nowhere to go.
    Buffer.concat([Buffer.of(SSH_MESSAGE.CHANNEL_OPEN_CONFIRMATION), channel, uint32(ownChannel), uint32(0), uint32(PACKET_SIZE)]),
    Buffer.concat([Buffer.of(SSH_MESSAGE.CHANNEL_EXTENDED_DATA), channel, uint32(STDERR), string(`${text}\r\n`)]),
    Buffer.concat([Buffer.of(SSH_MESSAGE.CHANNEL_REQUEST), channel, string("exit-status"), Buffer.of(0), uint32(255)]),
    Buffer.concat([Buffer.of(SSH_MESSAGE.CHANNEL_EOF), channel]),
    Buffer.concat([Buffer.of(SSH_MESSAGE.CHANNEL_CLOSE), channel]),
  ];
}

/** The string right after the message type, if it is whole; names are ASCII (RFC 4250 section 4.6.1). */
function readName(payload: Uint8Array): string | null {
  if (payload.length < 5) return null;
  const length = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).readUInt32BE(1);
  return payload.length < 5 + length ? null : Buffer.from(payload.subarray(5, 5 + length)).toString("latin1");
}
