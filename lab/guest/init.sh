#!/bin/sh
# First process of a guest: runs the shell scripts that the lab sends over the console.
#
# A request is one line, `ID BASE64`: a number and a shell script. The answer is the script's output
# between STX ID LF and ETX ID STATUS LF. Kernel messages could interrupt an answer, so only
# emergencies go to the console; `dmesg` has the rest.
export PATH=/usr/bin:/sbin:/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
exec </dev/hvc0 >/dev/hvc0 2>&1
modprobe -a xen-blkfront xen-netfront crc32c_generic ext4
dmesg -n 1
# Non-canonical mode, so that a line may exceed a terminal's 4096 bytes. No echo, no CR before LF.
stty -echo -icanon -opost

echo "guest ready"
# A subshell reads requests, because the first process receives SIGCHLD when an orphan ends. At a
# SIGCHLD, busybox's `read` loses the part of a line that it has read.
(
while read -r id script; do
  printf '\002%s\n' "$id"
  (set -e -o pipefail; eval "$(echo "$script" | base64 -d)") </dev/null
  printf '\003%s %s\n' "$id" $?
done
)
poweroff -f
