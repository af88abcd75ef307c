/** One row of the checklist and the tests that keep it. */
export interface TableRow {
  /** The checklist's first cell, verbatim. */
  readonly method: string;
  /** Tests as `file: title` with the title as its source has it, or the start of it; a file is one of test/conformance or test/e2e. */
  readonly tests: readonly string[];
  /** In place of a test for 0.1.46, why no server can make the row work there. */
  readonly broken46?: string;
}

const RELATIVE_URL = "0.1.46 calls a relative URL, which fails before any request";

/** Rows of `freestyle-sandboxes` 0.1.46 and `freestyle` 0.1.63. */
export const TABLE_V1: readonly TableRow[] = [
  { method: "`new Freestyle({accessToken})`", tests: ["token-limits: reads and wakes the VM that was granted"] },
  { method: "`vms.create({})` reading `id, vm`", tests: ["client-sessions: the server's code returns a token"] },
  { method: "`vms.create()` reading `vm, vmId`", tests: ["ssh-access: the line that the code prints opens a shell as root"] },
  { method: "`vms.create({users:[{name}…]})`", tests: ["client-sessions: the code that acts as a Linux user"] },
  { method: "`vms.list()`", tests: ["vms: a created VM has an id fit for DNS and SSH, runs, and is listed with the counts"] },
  {
    method: "`vms.get/ref`",
    tests: ["client-sessions: the server's code returns a token", "vms: another account's VM does not exist"],
  },
  { method: "`vms.delete`, `vm.delete`", tests: ["vms: a deleted VM is gone from the list and from every call"] },
  {
    method: "`vm.getInfo`",
    tests: ["vms: a created VM has an id fit for DNS and SSH"],
  },
  {
    method: "`vm.start`",
    tests: ["vms: suspend and start keep what runs in memory", "waking: is woken once by many commands at the same time"],
  },
  {
    method: "`vm.stop/suspend/kill/waitForExit/optimize`",
    tests: [
      "vms: start, stop and suspend said twice",
      "v1-lifecycle: is waited for: waitForExit answers when the VM is killed",
      "v1-rest: is refused with a code that the package knows: optimize",
    ],
  },
  {
    method: "`vm.resize`",
    tests: ["v1-rest: resize answers the sizes that hold", "v1-rest: an empty or senseless resize is refused"],
  },
  { method: "`vm.fork`", tests: ["v1-rest: fork: the copy has the disk as it was"] },
  { method: "`vm.snapshot`", tests: ["v1-rest: snapshot: a VM that is made from it has the disk as it was"] },
  {
    method: "`vm.exec({command})` / string",
    tests: ["exec: a %s runs a command as root", "exec: a megabyte of output comes back whole"],
  },
  {
    method: "`vm.user({username})`",
    tests: ["exec: user() acts as that user", "token-limits: with a list of users acts as those only"],
  },
  { method: '`vm.fs.readDir("/")`', tests: ["files: mkdir, exists, stat, readDir and remove agree"] },
  {
    method: "`fs.readFile/readTextFile`",
    tests: ["files: with a %s, bytes that were written are the bytes that are read", "files: text keeps every letter"],
  },
  {
    method: "`fs.writeFile/writeTextFile`",
    tests: ["files: with a %s, bytes that were written are the bytes that are read", "files: writing where a directory stands"],
  },
  { method: "`fs.mkdir/remove/exists`", tests: ["files: mkdir, exists, stat, readDir and remove agree"] },
  { method: "`fs.stat`", tests: ["files: mkdir, exists, stat, readDir and remove agree"] },
  {
    method: "`fs.watchFiles`",
    tests: ["watch: leaves nothing running in the VM", "watch: is refused to who may not be that user"],
    broken46: RELATIVE_URL,
  },
  {
    method: "`terminals.*`, `systemd.*`",
    tests: ["v1-rest: terminals are listed and read", "v1-rest: a service is made, runs, is listed"],
  },
  { method: "`pty.open`", tests: ["pty: a %s opens a shell, writes, reads, resizes and sends signals"] },
  { method: "`pty.attach`", tests: ["pty: detached, a session goes on, and attaching shows its scrollback first"] },
  { method: "`pty.list/close`", tests: ["pty: a session is listed, and can be closed"] },
  {
    method: "`vms.snapshots.*`, `getBuild`, `getLogs`",
    tests: [
      "v1-rest: lists, shows, renames and deletes snapshots",
      "v1-rest: snapshots.create makes one from a description",
      "v1-rest: getBuild and getLogs are refused",
    ],
  },
  { method: "`identities.create`", tests: ["identities: are created, listed page by page"] },
  { method: "`identities.list`", tests: ["identities: are created, listed page by page"] },
  { method: "`identities.delete`", tests: ["identities: are created, listed page by page"] },
  {
    method: "`permissions.vms.grant({vmId})`",
    tests: ["identities: have permissions that are granted, read, listed, updated and revoked"],
  },
  {
    method: "`permissions.vms.grant({vmId,allowedUsers})`",
    tests: ["ssh-access: each developer's token opens that developer's account"],
  },
  {
    method: "`permissions.vms.get/list/update/revoke`",
    tests: ["identities: have permissions that are granted, read, listed, updated and revoked"],
  },
  { method: "`tokens.create`", tests: ["identities: have tokens that are shown once"] },
  { method: "`tokens.list/revoke`", tests: ["identities: have tokens that are shown once"] },
  { method: "`whoami`", tests: ["v1-rest: whoami says its account and identity"], broken46: RELATIVE_URL },
  { method: "background (logger)", tests: ["v1-rest: create with a logger answers when the VM runs"] },
  {
    method: "SSH strings",
    tests: [
      "ssh-access: every ssh form of the document logs in",
      "ssh-access: the user and host that an editor takes from the document's URLs",
      "cli: vm ssh is a shell in the VM, through the built-in host name",
    ],
  },
];

/** Rows of `freestyle` 0.2.17. */
export const TABLE_V5: readonly TableRow[] = [
  { method: "`vms.create({firewall})`", tests: ["v5-vms: a VM is made with everything the SDK can say of it"] },
  {
    method: "`vms.list/get`, `vm.data/update/start/pause/resize/snapshot`, `snapshots.*`",
    tests: [
      "v5-vms: a VM is made with everything the SDK can say of it",
      "v5-vms: pause keeps what runs in memory",
      "v5-rest: resize answers the sizes that hold",
      "v5-rest: hold the disk as it was: taken, listed",
    ],
  },
  { method: "`vm.delete`, `vms.delete`", tests: ["v5-vms: pause keeps what runs in memory, start resumes it, delete ends it"] },
  { method: "`vm.exec`, `vm.linuxUser(u).exec`", tests: ["v5-vms: has a user, an environment, input of any bytes, and a status"] },
  { method: "background poll", tests: ["v5-rest: answer 202 with an id at once", "v5-rest: are nobody else's"] },
  {
    method: "`fs.readFile*`",
    tests: ["v5-files: a small file comes back byte for byte", "v5-files: a part of a file is that part"],
  },
  { method: "`fs.writeFile` small", tests: ["v5-files: a small file comes back byte for byte"] },
  { method: "`fs.writeFile` large", tests: ["v5-files: a large file goes up in pieces", "v5-files: pieces whose answer is lost"] },
  { method: "`fs.readDir` / `exists` / `stat`", tests: ["v5-files: mkdir, exists, stat, readDir and remove agree"] },
  { method: "`fs.mkdir/remove`", tests: ["v5-files: mkdir, exists, stat, readDir and remove agree"] },
  {
    method: "`pty.open`",
    tests: ["pty: a %s opens a shell, writes, reads, resizes and sends signals", "pty: a slug gets or creates"],
  },
  { method: "`pty.attach`", tests: ["pty: both SDKs see and use the same sessions"] },
  { method: "`pty.list/close`", tests: ["pty: an exited session is listed with its exit code"] },
  { method: "`identities.create`", tests: ["v5-vms: live their whole life"] },
  {
    method: "`identities.list/get`, `identity.data`",
    tests: ["v5-vms: live their whole life", "v5-vms: that are managed are shown only when asked for"],
  },
  { method: "`identities.delete`, `tokens.revoke`, `permissions.vm.revoke`", tests: ["v5-vms: live their whole life"] },
  { method: "`tokens.create`", tests: ["v5-vms: live their whole life"] },
  { method: "`tokens.list`, `permissions.vm.list`", tests: ["v5-vms: live their whole life"] },
  { method: "`permissions.vm.grant/get/update`", tests: ["v5-vms: live their whole life"] },
  { method: "CLI `vm ssh --real-ssh`", tests: ["cli: vm ssh --real-ssh is %s, ends as its command does"] },
];
