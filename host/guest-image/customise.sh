#!/bin/bash
# mmdebstrap customise hook: turns a plain Debian root file system ($1) into the guest's. Runs on the host, as root.
set -euo pipefail
readonly root=$1
readonly here=$(dirname "$(readlink -f "$0")")
readonly overlay=$here/rootfs

install_file() { install -D --owner=root --group=root --mode="$2" "$overlay$1" "$root$1"; }
install_file /etc/ssh/sshd_config.d/postern.conf 0644
install_file /etc/sudoers.d/postern 0440
install_file /usr/local/bin/fetch-ssh-keys 0755
install_file /usr/local/sbin/guest-init 0755
install_file /etc/systemd/system/ssh.service 0644
install_file /etc/systemd/system.conf.d/postern.conf 0644
install_file /etc/systemd/journald.conf.d/postern.conf 0644

# What has no meaning in a container, or makes its start slower. Masked, so that an upgrade of systemd brings nothing back.
while read -r unit; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done <"$here/masked-units.txt"
# Nobody opens the way to logins later, as systemd-user-sessions would.
ln -sf /dev/null "$root/etc/tmpfiles.d/systemd-nologin.conf"
chroot "$root" systemctl --quiet disable ssh.service
chroot "$root" systemctl --quiet enable ssh.service
chroot "$root" systemctl --quiet set-default multi-user.target

# sshd 9.8 and later punish a source address for failed logins, and every login comes from the host's one address.
sshd_version=$(chroot "$root" ssh -V 2>&1 | sed -E 's/^OpenSSH_([0-9]+\.[0-9]+).*/\1/')
if [[ "$(printf '%s\n' 9.8 "$sshd_version" | sort --version-sort | head -n 1)" == 9.8 ]]; then
  echo 'PerSourcePenalties no' >>"$root/etc/ssh/sshd_config.d/postern.conf"
fi

# A login uid cannot be written in a container, and that must not end the session.
sed -i -E 's/^(session\s+)required(\s+pam_loginuid\.so)/\1optional\2/' "$root/etc/pam.d/sshd"

# Host keys and the machine's identity are seeded for each VM.
rm -f "$root"/etc/ssh/ssh_host_*
: >"$root/etc/machine-id"
: >"$root/etc/motd"
rm -rf "$root/etc/update-motd.d" && mkdir "$root/etc/update-motd.d"
echo 'LANG=C.UTF-8' >"$root/etc/default/locale"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
# The host's own apt settings (a proxy, say) are no business of a guest's.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap"
# mmdebstrap copies these from the host it runs on.
: >"$root/etc/resolv.conf"
echo guest >"$root/etc/hostname"
