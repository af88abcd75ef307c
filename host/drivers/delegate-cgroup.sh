#!/bin/bash
# OCI hook (createRuntime): lets a guest's systemd keep its services apart. runc mounts the guest's own cgroup read-only; here the
# part of it that carries no limits is made writable: the named hierarchy of version 1, or the delegated tree of version 2, whose
# limits the kernel guards by the cgroup namespace. Runs with the host's ids, since a guest's root cannot pass every folder in which
# its disk may be, and in the guest's mount namespace before its root is entered, so these are the host's commands, never the guest's.
set -euo pipefail
# Some engines run hooks without any.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# The state of the container (OCI runtime specification, State) comes on standard input.
state=$(cat)
bundle=$(sed -n 's/.*"bundle": *"\([^"]*\)".*/\1/p' <<<"$state")
pid=$(sed -n 's/.*"pid": *\([0-9][0-9]*\).*/\1/p' <<<"$state")
root=$(sed -n 's/.*"root": *{ *"path": *"\([^"]*\)".*/\1/p' "$bundle/config.json")
[[ -n "$root" ]] || { echo "$bundle names no root file system" >&2; exit 1; }
cgroup=$root/sys/fs/cgroup
[[ ! -d "/proc/$pid/root$cgroup/systemd" ]] || cgroup=$cgroup/systemd
exec nsenter "--mount=/proc/$pid/ns/mnt" mount -o remount,bind,rw,nosuid,nodev,noexec "$cgroup"
