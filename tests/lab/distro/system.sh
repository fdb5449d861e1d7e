#!/bin/sh
# /init of the system that the lab distro's installer leaves on the disk: says where it booted from, and stays up.
WHO=lab-system
. /machine.sh

# Mounts the partition that holds lab/system.conf.
find_configuration() {
    for find_round in $(seq 1 100); do
        for find_path in /sys/class/block/*/partition; do
            [ -e "$find_path" ] || continue
            find_name=${find_path%/partition}
            find_name=${find_name##*/}
            mount -t vfat -o ro "/dev/$find_name" /target 2>/dev/null || continue
            [ -f /target/lab/system.conf ] && return 0
            umount /target
        done
        usleep 100000
    done
    return 1
}

mount_kernel_trees
load_drivers
mkdir -p /target
find_configuration || { say "failed: no partition holds lab/system.conf"; while :; do sleep 3600; done; }
CONFIGURATION=/target/lab/system.conf
hostname "$(value_of hostname "$CONFIGURATION")"
if bring_up_network; then
    say "address $(cat /run/address) on $INTERFACE after $(cut -d ' ' -f 1 /proc/uptime) s"
    BOOTED=$(value_of booted "$CONFIGURATION")
    if [ -n "$BOOTED" ]; then
        fetch "$BOOTED" /dev/null || say "report booted was not taken"
    fi
else
    say "no address by DHCP"
fi
say "booted from disk $(hostname)"
if [ "$(value_of poweroff_after_boot "$CONFIGURATION")" = 1 ]; then
    sync
    poweroff -f
fi
while :; do sleep 3600; done
