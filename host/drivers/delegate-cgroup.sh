#!/bin/bash
# OCI hook (createContainer): lets a guest's systemd keep its services apart. runc mounts the guest's own cgroup read-only;
# here the part of it that carries no limits is made writable: the named hierarchy of version 1, or the delegated tree of
# version 2, whose limits the kernel guards by the cgroup namespace. The hook runs in the guest's mount namespace before its
# root is entered, so these are the host's commands, never the guest's.
set -euo pipefail
# Some engines run hooks without any.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
cat >/dev/null
found=
# Fields of /proc/self/mountinfo (proc(5)); the root file systems of other guests show here too, their cgroups do not.
while read -r _ _ _ _ target _ rest; do
  case $target in
    */sys/fs/cgroup/systemd) [[ "$target" == /sys/* ]] || found=$target ;;
    */sys/fs/cgroup) [[ "$target" == /sys/* || "$rest" != *"- cgroup2 "* ]] || found=$target ;;
  esac
done </proc/self/mountinfo
[[ -n "$found" ]] || { echo "the guest has no cgroup of its own for systemd" >&2; exit 1; }
exec mount -o remount,bind,rw,nosuid,nodev,noexec "$found"
