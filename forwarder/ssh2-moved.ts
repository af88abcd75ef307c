/** A field of `ssh2` is not where this build expects it: the version was changed without changing the file that uses it. */
export class Ssh2Moved extends Error {}
