#!/bin/sh
# Boots the systemd of this machine in namespaces, for trying the units without a VM: PID 1 is real, the file system is
# this one with everything that is written kept in memory, and nothing of it reaches the machine. The network is the
# machine's own. Wants root, overlayfs and cgroup v2.
#
#   unshare --mount --pid --fork --kill-child --uts --ipc --cgroup apps/miglet/deploy/try/systemd-machine.sh &
#   nsenter --target PID-OF-ITS-SYSTEMD --mount --pid --uts --ipc --cgroup systemctl status
set -eu

mount --make-rprivate /
# Somewhere to hang the new root; it is covered in here alone.
base=/mnt
mount -t tmpfs -o size=4g tmpfs $base
mkdir $base/upper $base/work $base/root
mount -t overlay -o lowerdir=/,upperdir=$base/upper,workdir=$base/work overlay $base/root
cd $base/root

mount -t proc proc proc
mount --bind -o ro proc/sys proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
for name in null zero full random urandom tty; do
  touch dev/$name
  mount --bind /dev/$name dev/$name
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

# Nothing of this machine's own services starts, and nothing that would look for hardware.
rm -rf etc/systemd/system/*.wants etc/systemd/system/default.target
for unit in systemd-udevd systemd-sysctl systemd-modules-load kmod-static-nodes systemd-random-seed \
  systemd-tmpfiles-setup-dev systemd-remount-fs systemd-logind systemd-firstboot systemd-hwdb-update systemd-binfmt; do
  ln -sf /dev/null etc/systemd/system/$unit.service
done
for unit in systemd-journald-audit.socket dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
  sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount; do
  ln -sf /dev/null etc/systemd/system/$unit
done
# What is below /tmp may be what is tried: it is not emptied at boot.
mkdir -p etc/tmpfiles.d
ln -sf /dev/null etc/tmpfiles.d/tmp.conf
cat >etc/systemd/system/try.target <<'UNIT'
[Unit]
Requires=systemd-journald.service dbus.socket
After=systemd-journald.service dbus.socket
AllowIsolate=yes
UNIT
[ -s etc/machine-id ] || echo 0123456789abcdef0123456789abcdef >etc/machine-id
hostname try

mkdir -p .before
pivot_root . .before
umount -l /.before
exec env -i container=try PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=try.target --log-target=console --show-status=0
