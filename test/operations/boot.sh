#!/bin/bash
# Becomes the first process of a computer: an overlay of a prepared root
# filesystem, its own namespaces and control group, systemd.
#
#   boot.sh ROOTFS FOLDER NAME STICK    in FOLDER: upper (what is laid over ROOTFS), work, root, cgroup
#
# STICK is a folder that the computer has as /media/stick; none when it is empty.
set -euo pipefail
if [ "$1" != inside ]; then
  folder=$2 name=$3
  mkdir -p "$folder"/{upper,work,root,cgroup}
  # A control group of its own, below which systemd makes its own.
  mount -t cgroup2 cgroup2 "$folder/cgroup"
  mkdir "$folder/cgroup/$name"
  echo $$ >"$folder/cgroup/$name/cgroup.procs"
  exec unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup --propagation private "$0" inside "$1" "$folder" "$4"
fi
rootfs=$2 folder=$3 stick=$4
mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
cd "$folder/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 dev dev
for device in null zero full random urandom tty; do
  : >dev/$device
  mount --bind /dev/$device dev/$device
done
if [ -n "$stick" ]; then
  mkdir -p media/stick
  mount --bind "$stick" media/stick
fi
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
hostname computer
ip link set lo up
mkdir -p old
pivot_root . old
umount -l /old
# As systemd makes it on a computer that is none of another's: what it mounts for
# one service, credentials first, is to be seen by that service.
mount --make-rshared /
# systemd sends its own log to the journal; "container" is how it is told that
# no hardware is to be set up.
exec chroot . /usr/bin/env -i container=sallyport PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=0 --log-target=journal
