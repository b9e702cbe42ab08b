#!/bin/sh
# First process of dom0: finds the disk and continues there.
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec >/dev/console 2>&1
# crc32c_generic by name: busybox does not read soft dependencies, and ext4 has this one.
modprobe -a virtio_pci virtio_blk crc32c_generic ext4 || echo "dom0: modules are missing"
until [ -b /dev/vda ]; do usleep 20000; done
mount -o noatime /dev/vda /mnt
for each in proc sys dev; do mount -o move /$each /mnt/$each; done
exec switch_root /mnt /sbin/lab-init
