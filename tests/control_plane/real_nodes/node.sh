#!/bin/sh
# The first process of a real node, in network, mount, process, host name and IPC namespaces of its own: when it is killed,
# so is everything on the node, and mounts and links go with it. It shows the node its own disk and nothing of the
# system's state, touches the file /run/up when all is there, and then only reaps what was orphaned.
#
#   node.sh NAME DISK    DISK outlives a power cut
set -eu

mount --make-rshared /
mount -t proc proc /proc
# Some paths below these are fixed in containerd, CNI plugins and kubelet.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p "$2/lib" "$2/log"
mount --bind "$2/lib" /var/lib
mount --bind "$2/log" /var/log

# The kubelet sets these of the whole system. Here it finds them set as it wants them, and leaves the real ones alone.
mkdir /run/settings
set_already() {
    [ -e "/proc/sys/$1" ] || return 0
    echo "$2" >"/run/settings/${1##*/}"
    mount --bind "/run/settings/${1##*/}" "/proc/sys/$1"
}
set_already vm/overcommit_memory 1
set_already vm/panic_on_oom 0
set_already kernel/panic 10
set_already kernel/panic_on_oops 1
set_already kernel/keys/root_maxkeys 1000000
set_already kernel/keys/root_maxbytes 25000000

echo "$1" >/proc/sys/kernel/hostname
echo 1 >/proc/sys/net/ipv4/ip_forward
: >/run/up
# A shell that waits for one child reaps every other that ends meanwhile.
while :; do sleep 1000; done
