#!/bin/bash
# Puts a root file system into the image store that every container driver of this machine reads.
#
#   import-image.sh CACHE_DIR ROOTFS_TAR
#
# Prints progress on standard error and the image's name on standard output. The store is CACHE_DIR/images; drivers name it
# in `additionalimagestores` and never write to it. Two runs at once import once.
set -euo pipefail
export PODMAN_IGNORE_CGROUPSV1_WARNING=1
cache=$1
tar=$2
store=$cache/images
name=$(basename "$tar" .tar)
key=${name#rootfs-}
image=localhost/postern-guest:$key
marker=$store/imported-$key

if [[ -f "$marker" ]]; then
  echo "$image"
  exit 0
fi
mkdir -p "$store"
exec 9>"$store.lock"
flock 9
if [[ ! -f "$marker" ]]; then
  echo "importing the guest image" >&2
  run=$(mktemp -d /run/postern-import.XXXXXX)
  trap 'umount "$store/overlay" 2>/dev/null || true; rm -rf "$run"' EXIT
  # podman's database is thrown away with $run: only the image matters, and a kept one would insist on $run's path.
  cat >"$run/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$store"
runroot = "$run/run"
CONF
  cat >"$run/containers.conf" <<CONF
[engine]
tmp_dir = "$run/tmp"
static_dir = "$run/static"
volume_path = "$run/volumes"
lock_type = "file"
events_logger = "none"
cgroup_manager = "cgroupfs"
CONF
  CONTAINERS_CONF=$run/containers.conf CONTAINERS_STORAGE_CONF=$run/storage.conf \
    podman import --quiet "$tar" "$image" >/dev/null
  touch "$marker"
fi
echo "$image"
