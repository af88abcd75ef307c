/** A throw-away key's public line, and its fingerprint as `ssh-keygen -l` printed it. */
export const PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFLAt1BBjAVgEFXJSIjKcBebUteYRmetWq+mNKbzS3U9 someone@somewhere";
export const FINGERPRINT = "SHA256:Y3BF1LaZyKaI9LdS2BcvuTSlYPNTTxMwEyXKpJDWT/s";
