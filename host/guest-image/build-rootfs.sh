#!/bin/bash
# Builds the guests' root file system as a tar, once for each recipe, from the Debian mirrors that this host's apt uses.
#
#   build-rootfs.sh CACHE_DIR [CODENAME]
#
# Prints progress on standard error and, on standard output, the path of the tar: CACHE_DIR/rootfs-<key>.tar, where the
# key is a hash over the recipe (this folder), the Debian release and the architecture. Two runs at once build once; a
# tar under its final name is always whole. To take in package updates, remove the tar.
set -euo pipefail
cache=$1
here=$(dirname "$(readlink -f "$0")")
codename=${2:-$(. /etc/os-release && echo "${VERSION_CODENAME:-}")}
architecture=$(dpkg --print-architecture)
[[ -n "$codename" ]] || { echo "this host names no Debian release" >&2; exit 1; }

say() { echo "$*" >&2; }

recipe_key() {
  {
    echo "$codename $architecture"
    (cd "$here" && find build-rootfs.sh customise.sh masked-units.txt packages.txt rootfs -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
  } | sha256sum | cut -c1-16
}

tar=$cache/rootfs-$(recipe_key).tar
if [[ -f "$tar" ]]; then
  echo "$tar"
  exit 0
fi

mkdir -p "$cache"
exec 9>"$tar.lock"
if ! flock --nonblock 9; then
  say "waiting for another build of the guest image"
  flock 9
fi
if [[ -f "$tar" ]]; then
  echo "$tar"
  exit 0
fi

work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Of the host's own sources, those of its Debian release: third-party ones have no place in a guest.
collect_sources() {
  local file
  shopt -s nullglob
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [[ -f "$file" ]] || continue
    grep -E "^deb\s.*\s$codename(-updates|-security|/updates)?\s+(.*\s)?main(\s|$)" "$file" >>"$work/host.list" || true
  done
  for file in /etc/apt/sources.list.d/*.sources; do
    if grep -qE "^Suites:(.*\s)?$codename(\s|$)|^Suites:(.*\s)?$codename-security(\s|$)" "$file" &&
      grep -qE '^Components:(.*\s)?main(\s|$)' "$file"; then
      cp "$file" "$work/"
    fi
  done
}
collect_sources
mapfile -t sources < <(find "$work" -maxdepth 1 -type f \( -name '*.sources' -o -name '*.list' -size +0 \))
((${#sources[@]} > 0)) || sources=("http://deb.debian.org/debian")

proxies=()
for scheme in http https; do
  proxy=$(apt-config shell value "Acquire::$scheme::Proxy" | sed -E "s/^value='(.*)'$/\1/")
  [[ -z "$proxy" ]] || proxies+=("--aptopt=Acquire::$scheme::Proxy \"$proxy\"")
done

say "building the guest image from Debian $codename (about a minute, once)"
started=$SECONDS
packages=$(paste -sd, "$here/packages.txt")
mmdebstrap --variant=minbase --include="$packages" --format=tar "${proxies[@]}" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --customize-hook="\"$here/customise.sh\" \"\$1\"" \
  "$codename" "$work/rootfs.tar" "${sources[@]}" 2> >(
    tee "$work/log" | while IFS= read -r line; do
      case $line in
        "I: running apt-get update"*) say "reading package lists" ;;
        "I: downloading packages"* | "I: installing remaining"*) say "downloading and installing packages" ;;
        "I: creating tarball"*) say "packing the root file system" ;;
      esac
    done
  ) || { say "mmdebstrap failed:"; tail -n 20 "$work/log" >&2; exit 1; }
mv "$work/rootfs.tar" "$tar"
say "guest image built in $((SECONDS - started)) s"
echo "$tar"
