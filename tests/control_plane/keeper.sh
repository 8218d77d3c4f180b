#!/bin/sh
# Keeps a control plane from outliving the process that owns it. Standard input is a pipe that only the owner holds open;
# its end, for whatever reason, says that the owner is done or dead. Then every process of the group is killed, also a
# stopped one, and the folder is removed.
#
#   keeper.sh PARENT GROUP    makes the folder below PARENT and prints its path
set -u
trap '' HUP INT QUIT TERM PIPE
folder=$(mktemp -d "$1/leadergroup-control-plane-XXXXXXXX") || exit 1
printf '%s\n' "$folder"

while read -r _; do :; done

kill -s KILL -- "-$2" 2>/dev/null
# A process that is still dying may add a file while the folder is being removed.
tries=0
until rm -rf "$folder" 2>/dev/null || [ "$tries" -ge 100 ]; do
    tries=$((tries + 1))
    sleep 0.05
done
[ ! -e "$folder" ]
