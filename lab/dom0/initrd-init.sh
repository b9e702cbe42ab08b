#!/bin/sh
# First process of dom0: mounts the disk and continues with the init there.
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec >/dev/console 2>&1
# crc32c_generic is a soft dependency of ext4, which busybox's modprobe doesn't load by itself.
modprobe -a virtio_pci virtio_blk crc32c_generic ext4 || echo "dom0: modules are missing"
until [ -b /dev/vda ]; do usleep 20000; done
mount -o noatime /dev/vda /mnt
for each in proc sys dev; do mount -o move /$each /mnt/$each; done
exec switch_root /mnt /sbin/lab-init
