#!/bin/bash
# First process of dom0 on its disk: starts what a Xen distribution's init starts, then the lab's
# agent. The agent exits when the host closes the port, and then the machine powers off.
export PATH=/lab/programs:/usr/lib/xen/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
exec </dev/null >/dev/console 2>&1
step() { "$@" || echo "dom0: $* failed with $?"; }

step mount -t tmpfs tmpfs /run
step mount -t tmpfs tmpfs /tmp
mkdir -p /dev/pts /dev/shm /run/xen /run/xenstored /run/lock
step mount -t devpts devpts /dev/pts
step mount -t tmpfs tmpfs /dev/shm
# Links that udev would create. Xen's hotplug scripts find their lock through /dev/stdin, and spin
# without it.
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr

step modprobe -a virtio_console virtio_rng 9p 9pnet_virtio xenfs xen-evtchn xen-gntdev xen-gntalloc xen-privcmd tun
step mount -t xenfs xenfs /proc/xen
mkdir -p /lab/programs /lab/out
step mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro programs /lab/programs
step mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 out /lab/out
mkdir -p /lab/out/xen/console
step mount --bind /lab/out/xen /var/log/xen

step ip link set lo up
step xenstored --pid-file=/run/xen/xenstored.pid
step xen-init-dom0
step xenconsoled --pid-file=/run/xen/xenconsoled.pid --log=guest --log-dir=/var/log/xen/console

# No exec here, because this shell must stay the first process: it reaps orphans such as xl's daemons.
node /lab/programs/agent.mjs
echo "dom0: the agent ended with $?"
poweroff -f
