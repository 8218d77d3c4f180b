#!/bin/sh
# Keeps a control plane from outliving the process that owns it. Standard input is a pipe that only the owner holds open;
# its end, for whatever reason, says that the owner is done or dead. Then every process of the group is killed, also a
# stopped one; what is in namespaces of its own goes with them. The control groups of the folder's name and the folder
# are removed.
#
#   keeper.sh PARENT GROUP    makes the folder below PARENT and prints its path
set -u
trap '' HUP INT QUIT TERM PIPE
folder=$(mktemp -d "$1/leadergroup-control-plane-XXXXXXXX") || exit 1
printf '%s\n' "$folder"

while read -r _; do :; done

kill -s KILL -- "-$2" 2>/dev/null

remove() {
    left=0
    for group in "/sys/fs/cgroup/${folder##*/}" /sys/fs/cgroup/*/"${folder##*/}"; do
        [ -d "$group" ] || continue
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
        [ ! -d "$group" ] || left=1
    done
    rm -rf "$folder" 2>/dev/null && [ "$left" = 0 ]
}

# A process that is still dying may add a file while the folder is being removed, and holds its control group.
tries=0
until remove || [ "$tries" -ge 1000 ]; do
    tries=$((tries + 1))
    sleep 0.05
done
[ ! -e "$folder" ]
