#!/bin/sh
# Starts a program in the control group of a real node, in every hierarchy that the system has, so that whatever comes of
# it can be found and is known to be gone when the group is.
#
#   enter.sh GROUP PROGRAM ...    GROUP/system is for the node's own programs, GROUP/pods for the kubelet's pods
set -eu
group=$1
shift

if [ -e /sys/fs/cgroup/cgroup.procs ]; then hierarchies=/sys/fs/cgroup version=2; else hierarchies=$(echo /sys/fs/cgroup/*) version=1; fi
for hierarchy in $hierarchies; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    mkdir -p "$hierarchy/$group/system" "$hierarchy/$group/pods"
    if [ "$version" = 1 ] && [ -e "$hierarchy/cpuset.cpus" ]; then
        # A new group of this hierarchy takes no process before it has processors and memory.
        for level in "$(dirname "$group")" "$group" "$group/system" "$group/pods"; do
            for file in cpuset.cpus cpuset.mems; do cat "$hierarchy/$(dirname "$level")/$file" >"$hierarchy/$level/$file"; done
        done
    fi
    if [ "$version" = 2 ]; then
        # The kubelet wants every controller in its group. What can't be handed down, it names.
        for level in "$hierarchy" "$hierarchy/$(dirname "$group")" "$hierarchy/$group"; do
            for controller in $(cat "$level/cgroup.controllers"); do echo "+$controller" 2>/dev/null >"$level/cgroup.subtree_control" || :; done
        done
    fi
    echo $$ >"$hierarchy/$group/system/cgroup.procs"
done
exec "$@"
