#!/bin/bash
# OCI hook (createRuntime): gives a guest with ids of its own the part of its cgroup that delegate-cgroup.sh makes writable, since its
# root is not the host's. Only what a delegation hands over (cgroup-v2, "Delegation Containment"): limits stay the host's. Runs
# with the host's ids, before anything of the guest's does.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# The state of the container (OCI runtime specification, State) comes on standard input.
pid=$(sed -n 's/.*"pid": *\([0-9][0-9]*\).*/\1/p')
read -r _ uid _ <"/proc/$pid/uid_map"
read -r _ gid _ <"/proc/$pid/gid_map"
if [[ -d /sys/fs/cgroup/systemd ]]; then
  cgroup=/sys/fs/cgroup/systemd$(sed -n 's/^[0-9]*:name=systemd://p' "/proc/$pid/cgroup")
else
  cgroup=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
fi
for file in "$cgroup" "$cgroup"/{cgroup.procs,cgroup.threads,cgroup.subtree_control,tasks}; do
  [[ ! -e "$file" ]] || chown "$uid:$gid" "$file"
done
