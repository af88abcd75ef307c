#!/bin/bash
# Installs the Debian packages that a host needs, only those that are missing. Safe to run at every start: silent and
# quick when there is nothing to do. Needs root and apt on Debian 12 or newer when there is.
#
#   install-system-packages.sh [--with-tests] [--with-qemu] [--check]
#
# --with-qemu adds what virtual machines need; it comes with --with-tests.
# --check names what is missing, installs nothing, and ends with 1 if anything is.
# --with-tests adds what only the tests need: an sshd to stand in for a guest's, and the clients that people use.
set -euo pipefail

# package=file that shows it is there, so that nothing but file tests runs when all is well
NEEDED=(
  podman=/usr/bin/podman
  conmon=/usr/bin/conmon
  containers-storage=/usr/bin/containers-storage
  runc=/usr/sbin/runc
  nftables=/usr/sbin/nft
  iproute2=/sbin/ip
  mmdebstrap=/usr/bin/mmdebstrap
  util-linux=/usr/bin/nsenter
  mount=/usr/bin/mount
  openssh-client=/usr/bin/ssh
  ca-certificates=/etc/ssl/certs/ca-certificates.crt
)
# podman 5 (Debian 13) will not start without it, though the guests' network is our own.
debian=$(. /etc/os-release 2>/dev/null && echo "${VERSION_ID:-}" || true)
[[ "$debian" =~ ^[0-9]+$ ]] && ((debian >= 13)) && NEEDED+=(netavark=/usr/lib/podman/netavark)

readonly NEEDED_BY_QEMU=(
  qemu-system-x86=/usr/bin/qemu-system-x86_64
  qemu-utils=/usr/bin/qemu-img
  e2fsprogs=/sbin/mke2fs
  busybox-static=/usr/bin/busybox
  kmod=/usr/bin/kmod
  cpio=/usr/bin/cpio
)

readonly NEEDED_BY_TESTS=(
  openssh-server=/usr/sbin/sshd
  sshpass=/usr/bin/sshpass
  expect=/usr/bin/expect
  rsync=/usr/bin/rsync
  git=/usr/bin/git
  chromium=/usr/bin/chromium
  inotify-tools=/usr/bin/inotifywait
  dropbear-bin=/usr/bin/dbclient
  putty-tools=/usr/bin/plink
  lftp=/usr/bin/lftp
  python3-paramiko=/usr/lib/python3/dist-packages/paramiko/__init__.py
  python3-asyncssh=/usr/lib/python3/dist-packages/asyncssh/__init__.py
  curl=/usr/bin/curl
  xauth=/usr/bin/xauth
  x11-utils=/usr/bin/xdpyinfo
  xvfb=/usr/bin/Xvfb
)

wanted=("${NEEDED[@]}")
[[ " $* " != *" --with-tests "* ]] || wanted+=("${NEEDED_BY_TESTS[@]}" "${NEEDED_BY_QEMU[@]}")
[[ " $* " != *" --with-qemu "* ]] || wanted+=("${NEEDED_BY_QEMU[@]}")
missing=()
for entry in "${wanted[@]}"; do
  [[ -e "${entry#*=}" ]] || missing+=("${entry%%=*}")
done
((${#missing[@]} > 0)) || exit 0
if [[ " $* " == *" --check "* ]]; then
  echo "missing: ${missing[*]}"
  exit 1
fi

if ((EUID != 0)) || [[ ! -x /usr/bin/apt-get ]]; then
  echo "Postern needs these Debian packages, and can install them only as root with apt-get: ${missing[*]}" >&2
  exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() {
  "$@" >"$log" 2>&1 </dev/null && return
  cat "$log" >&2
  echo "failed: $*" >&2
  exit 1
}
export DEBIAN_FRONTEND=noninteractive
echo "installing system packages: ${missing[*]}" >&2
# An outdated list is as bad as none: it names versions that mirrors no longer have.
run apt-get update --quiet
run apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
