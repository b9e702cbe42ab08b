#!/bin/sh
# First process of a guest: runs what the lab writes to the console.
#
# A request is one line, `ID BASE64`: a number and a shell script. The answer is the script's output
# between STX ID LF and ETX ID STATUS LF. Kernel messages would fall into the middle of it: only
# emergencies are let through, `dmesg` has the rest.
export PATH=/usr/bin:/sbin:/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
exec </dev/hvc0 >/dev/hvc0 2>&1
modprobe -a xen-blkfront crc32c_generic ext4
dmesg -n 1
# Not canonical: a line may then be longer than a terminal's 4096 bytes. No echo, no CR before LF.
stty -echo -icanon -opost

echo "guest ready"
# In a shell that isn't the first process, which is told when an orphan ends: busybox's `read` forgets
# what it has of a line when its shell is told of the end of a process.
(
while read -r id script; do
  printf '\002%s\n' "$id"
  (set -e -o pipefail; eval "$(echo "$script" | base64 -d)") </dev/null
  printf '\003%s %s\n' "$id" $?
done
)
poweroff -f
