# What both initramfs of the lab distro need: mounts, the drivers of the
# devices that are there, one network interface with an address.
# Sourced by installer.sh and system.sh; busybox ash only.

say() {
    for say_to in /dev/ttyS0 /dev/tty0; do
        [ -c "$say_to" ] && echo "$WHO: $*" 2>/dev/null >"$say_to"
    done
    return 0
}

mount_kernel_trees() {
    mkdir -p /proc /sys /dev /tmp /run
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mount -t devtmpfs dev /dev
    # Kernel messages would cut the lines that the tests wait for in two.
    echo 1 >/proc/sys/kernel/printk
    echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
    echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
}

# The value of NAME= on the kernel's command line, or nothing.
argument() {
    for argument_word in $(cat /proc/cmdline); do
        case "$argument_word" in
        "$1="*) echo "${argument_word#*=}" ;;
        esac
    done | tail -n 1
}

# A driver and all it needs, in the order that /modules/order/NAME lists.
driver() {
    [ -f "/modules/order/$1" ] || return 0
    for driver_file in $(cat "/modules/order/$1"); do
        [ -d "/sys/module/$(echo "${driver_file%.ko}" | tr - _)" ] && continue
        insmod "/modules/$driver_file" || say "driver $driver_file does not load"
    done
}

load_drivers() {
    for load_device in /sys/bus/pci/devices/*; do
        read -r load_vendor <"$load_device/vendor"
        read -r load_model <"$load_device/device"
        read -r load_class <"$load_device/class"
        case "$load_vendor:$load_model:$load_class" in
        0x1af4:*:0x02*) driver virtio_pci; driver virtio_net ;;
        0x1af4:*:0x01*) driver virtio_pci; driver virtio_blk ;;
        0x8086:0x10d3:*) driver e1000e ;;
        0x8086:0x100e:*) driver e1000 ;;
        *:0x0106*) driver ahci; driver sd_mod ;;
        *:0x0101*) driver ata_piix; driver sd_mod ;;
        esac
    done
    driver vfat
    driver nls_cp437
    driver nls_ascii
}

# Waits for a device that a driver is still looking for: at most 10 s.
wait_for() {
    for wait_round in $(seq 1 100); do
        [ -e "$1" ] && return 0
        usleep 100000
    done
    return 1
}

# Names the interface that the firmware booted from (BOOTIF=01-aa-bb-...), else the first that is no loopback.
choose_interface() {
    choose_wanted=$(argument BOOTIF | tr 'A-F-' 'a-f:')
    for choose_round in $(seq 1 100); do
        for choose_path in /sys/class/net/*; do
            choose_name=${choose_path##*/}
            [ "$choose_name" = lo ] && continue
            read -r choose_address <"$choose_path/address"
            if [ -z "$choose_wanted" ] || [ "${choose_wanted#??:}" = "$choose_address" ]; then
                echo "$choose_name"
                return 0
            fi
        done
        usleep 100000
    done
    return 1
}

bring_up_network() {
    ip link set lo up
    INTERFACE=$(choose_interface) || return 1
    ip link set "$INTERFACE" up
    # -n: give up in the end; -q: leave once there is a lease.
    udhcpc -i "$INTERFACE" -s /lease.sh -n -q -t 15 -T 1 >/run/udhcpc.log 2>&1
}

# fetch URL FILE: five attempts, a second apart.
fetch() {
    for fetch_round in 1 2 3 4 5; do
        # The static busybox of Debian 12 crashes on the option -T of wget.
        timeout 30 wget -q -O "$2" "$1" 2>/run/wget.log && return 0
        [ "$fetch_round" = 5 ] || sleep 1
    done
    return 1
}

# Percent-encodes what a reason may hold; other bytes become "_".
encode() {
    printf %s "$1" | tr -c 'A-Za-z0-9 ._:/-' _ | sed 's/ /%20/g'
}

value_of() {
    sed -n "s/^$1=//p" "$2" | tr -d '\r' | tail -n 1
}
