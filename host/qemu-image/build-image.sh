#!/bin/bash
# Builds what virtual machines boot from, once for each recipe: a kernel of Debian's, an initrd of our own and a disk.
#
#   build-image.sh CACHE_DIR ROOTFS_TAR DISK_GIB
#
# Prints progress on standard error and, on standard output, the folder: CACHE_DIR/vm-<key> with `kernel`, `initrd` and
# `disk.raw`. The disk is sparse: it takes what is in it. Two runs at once build once; a folder under its final name is
# always whole, and is never written to again: disks of machines stand on it.
set -euo pipefail
cache=$1
rootfs=$2
gib=$3
here=$(dirname "$(readlink -f "$0")")
architecture=$(dpkg --print-architecture)
say() { echo "$*" >&2; }
[[ "$architecture" == amd64 ]] || { say "virtual machines are made on amd64 only, and this host is $architecture"; exit 1; }

kernel_package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -nE 's/^\s*Depends: (linux-image-\S+)$/\1/p' | head -n 1)
[[ -n "$kernel_package" ]] || { say "apt knows no linux-image-cloud-amd64; run apt-get update"; exit 1; }
key=$({
  echo "$(basename "$rootfs") $kernel_package $gib"
  (cd "$here" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
} | sha256sum | cut -c1-16)
image=$cache/vm-$key
if [[ -d "$image" ]]; then
  echo "$image"
  exit 0
fi
exec 9>"$image.lock"
flock 9
if [[ -d "$image" ]]; then
  echo "$image"
  exit 0
fi

say "building the virtual machines' image ($kernel_package)"
started=$SECONDS
work=$(mktemp -d "$cache/vm-build.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/out" "$work/packages" "$work/root" "$work/kernel"
# The unprivileged user whom apt would download as cannot write here.
(cd "$work/packages" && apt-get download --quiet -o APT::Sandbox::User=root "$kernel_package" kmod >"$work/log" 2>&1) ||
  { say "the kernel's package could not be downloaded:"; tail -n 20 "$work/log" >&2; exit 1; }
dpkg-deb --extract "$work"/packages/linux-image-*.deb "$work/kernel"
version=$(basename "$work"/kernel/lib/modules/*)
cp "$work/kernel/boot/vmlinuz-$version" "$work/out/kernel"

tar --extract --file "$rootfs" --directory "$work/root"
dpkg --root="$work/root" --install "$work"/packages/kmod_*.deb >>"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
mkdir -p "$work/root/lib/modules"
cp -a "$work/kernel/lib/modules/$version" "$work/root/lib/modules/"
chroot "$work/root" depmod "$version"
for program in vm-init vm-name vm-agent; do
  install --mode=0755 "$here/rootfs/usr/local/sbin/$program" "$work/root/usr/local/sbin/$program"
done
install --mode=0644 "$here/rootfs/etc/systemd/system/vm-agent.service" "$work/root/etc/systemd/system/vm-agent.service"
chroot "$work/root" systemctl --quiet enable vm-agent.service
# A machine of its own has a root of its own to look after, unlike a container.
rm -f "$work/root/etc/systemd/system/systemd-remount-fs.service" "$work/root/etc/systemd/system/systemd-sysctl.service"

initrd=$work/initrd
mkdir -p "$initrd"/{bin,dev,proc,sys,root,modules}
cp /usr/bin/busybox "$initrd/bin/busybox"
install --mode=0755 "$here/initrd-init" "$initrd/init"
drivers=$work/kernel/lib/modules/$version
for module in virtio_pci virtio_blk virtio_net; do
  chroot "$work/root" modprobe --show-depends --set-version "$version" "$module"
done | sed -nE 's#^insmod (/usr)?/lib/modules/[^/]+/(\S+).*#\2#p' | awk '!seen[$0]++' | while read -r file; do
  cp "$drivers/$file" "$initrd/modules/"
  basename "$file"
done >"$initrd/modules/order"
(cd "$initrd" && find . -print0 | cpio --null --create --format=newc --owner=0:0 --quiet | gzip -9) >"$work/out/initrd"

# The disk is all zeros to begin with, so nothing has to be zeroed later, inside each machine.
mke2fs -q -t ext4 -L root -E assume_storage_prezeroed=1,root_owner=0:0 -m 1 -d "$work/root" "$work/out/disk.raw" "${gib}G" >/dev/null
chmod 0644 "$work"/out/*
chmod 0755 "$work/out"
mv "$work/out" "$image"
say "virtual machines' image built in $((SECONDS - started)) s"
echo "$image"
