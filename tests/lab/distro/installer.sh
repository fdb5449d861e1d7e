#!/bin/sh
# /init of the lab distro's installer: fetches its answer file, writes a disk that boots, tells how it went.
WHO=lab-installer
. /machine.sh

ANSWER=/run/answer

answer() { value_of "$1" "$ANSWER"; }

# report STAGE [DETAIL]: never ends the installation when nobody listens.
report() {
    [ -n "$REPORT" ] || return 0
    report_url=$REPORT/$1
    [ -n "$2" ] && report_url="$report_url?detail=$(encode "$2")"
    fetch "$report_url" /dev/null || say "report $1 was not taken"
}

# A failed installer stays on, so that its machine does not start it once more.
fail() {
    say "failed: $*"
    report failed "$*"
    sync
    if [ "$(answer poweroff)" = 1 ]; then
        poweroff -f
    fi
    while :; do sleep 3600; done
}

stage() {
    say "stage $1"
    report "$1"
    if [ "$(answer stop_at)" = "$1" ]; then
        sync
        say "stopped at $1"
        while :; do sleep 3600; done
    fi
    [ "$(answer fail_at)" = "$1" ] && fail "asked to fail at $1"
}

# Every disk that can be written, one name a line.
disks() {
    for disks_path in /sys/class/block/*; do
        disks_name=${disks_path##*/}
        case "$disks_name" in
        vd[a-z] | sd[a-z] | nvme[0-9]n[0-9])
            [ "$(cat "$disks_path/ro")" = 0 ] && [ "$(cat "$disks_path/size")" -gt 0 ] && echo "$disks_name"
            ;;
        esac
    done
}

choose_disk() {
    choose_wanted=$(answer disk)
    case "$choose_wanted" in
    '' | auto) ;;
    *)
        DISK=${choose_wanted#/dev/}
        wait_for "/sys/class/block/$DISK" || fail "the disk $DISK that the answer names is not there"
        return 0
        ;;
    esac
    for choose_round in $(seq 1 50); do
        [ -n "$(disks)" ] && break
        usleep 100000
    done
    set -- $(disks)
    [ $# = 0 ] && fail "no disk found"
    [ $# = 1 ] || fail "several disks and none named: $*"
    DISK=$1
}

# le32 NUMBER: its four bytes, lowest first, as printf escapes.
le32() {
    le32_rest=$1
    for le32_round in 1 2 3 4; do
        printf '\\%03o' $((le32_rest & 255))
        le32_rest=$((le32_rest >> 8))
    done
}

# One active partition of type EF from sector 2048 on: GRUB in the gap before it for BIOS, the removable path on it for UEFI.
write_partition_table() {
    table_sectors=$(($(cat "/sys/class/block/$DISK/size") - 2048))
    [ "$table_sectors" -gt 131072 ] || fail "the disk $DISK is smaller than 65 MiB"
    dd if=/dev/zero of="/dev/$DISK" bs=512 count=2048 conv=notrunc 2>/dev/null || fail "the disk $DISK cannot be written"
    {
        printf '\200\376\377\377\357\376\377\377'
        printf "$(le32 2048)$(le32 $table_sectors)"
        dd if=/dev/zero bs=48 count=1 2>/dev/null
        printf '\125\252'
    } >/run/table
    dd if=/run/table of="/dev/$DISK" bs=1 seek=446 conv=notrunc 2>/dev/null || fail "the partition table cannot be written"
    sync
    blockdev --rereadpt "/dev/$DISK" || fail "the kernel does not take the partition table"
    case "$DISK" in
    nvme*) PARTITION=${DISK}p1 ;;
    *) PARTITION=${DISK}1 ;;
    esac
    wait_for "/dev/$PARTITION" || fail "the partition $PARTITION does not appear"
    mkdosfs -n LAB "/dev/$PARTITION" >/dev/null || fail "no file system could be made on $PARTITION"
    mount -t vfat "/dev/$PARTITION" /target || fail "$PARTITION cannot be mounted"
}

PACKAGES="system-vmlinuz system-initrd.img boot.img core.img BOOTX64.EFI"

fetch_packages() {
    mkdir -p /target/lab /target/EFI/BOOT
    fetch "$TREE/packages/SHA256SUMS" /run/SHA256SUMS || fail "packages/SHA256SUMS cannot be fetched"
    for package in $PACKAGES; do
        fetch "$TREE/packages/$package" "/target/lab/$package" || fail "packages/$package cannot be fetched"
        grep " $package\$" /run/SHA256SUMS >/run/one.sum || fail "packages/$package has no checksum"
        (cd /target/lab && sha256sum -c -s /run/one.sum) || fail "packages/$package is damaged"
    done
    {
        echo "hostname=$(answer hostname)"
        echo "booted=$(answer booted)"
        echo "poweroff_after_boot=$(answer poweroff_after_boot)"
        echo "root_password_hash=$(answer root_password_hash)"
        sed -n 's/^root_authorized_key=/root_authorized_key=/p' "$ANSWER"
    } >/target/lab/system.conf
    [ -n "$(answer booted)" ] || sed -i "s|^booted=.*|booted=$REPORT/booted|" /target/lab/system.conf
}

install_boot_code() {
    mv /target/lab/BOOTX64.EFI /target/EFI/BOOT/BOOTX64.EFI || fail "the UEFI loader cannot be placed"
    sync
    # Only 440 bytes: what follows in sector 0 is the partition table.
    dd if=/target/lab/boot.img of="/dev/$DISK" bs=440 count=1 conv=notrunc 2>/dev/null || fail "boot.img cannot be written"
    dd if=/target/lab/core.img of="/dev/$DISK" bs=512 seek=1 conv=notrunc 2>/dev/null || fail "core.img cannot be written"
    umount /target || fail "the new file system cannot be unmounted"
    sync
}

mount_kernel_trees
say "kernel runs after $(cut -d ' ' -f 1 /proc/uptime) s"
load_drivers
mkdir -p /target
URL=$(argument lab.answer)
bring_up_network || { say "failed: no address by DHCP"; while :; do sleep 3600; done; }
say "address $(cat /run/address) on $INTERFACE after $(cut -d ' ' -f 1 /proc/uptime) s"
if [ -z "$URL" ] || ! fetch "$URL" "$ANSWER"; then
    say "failed: the answer file cannot be fetched"
    cat /run/wget.log >/dev/ttyS0 2>/dev/null
    while :; do sleep 3600; done
fi
TREE=$(answer tree)
REPORT=$(answer report)
stage started
choose_disk
stage partitioning
write_partition_table
stage packages
fetch_packages
stage bootloader
install_boot_code
DONE=$(answer "done")
if [ "$(answer skip_done)" = 1 ]; then
    say "done is skipped"
elif [ -n "$DONE" ]; then
    fetch "$DONE" /dev/null || fail "done was not taken"
fi
say "installed after $(cut -d ' ' -f 1 /proc/uptime) s"
sync
if [ "$(answer poweroff)" = 1 ]; then
    say "power off"
    poweroff -f
fi
say "restart"
reboot -f
