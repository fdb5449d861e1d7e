#!/bin/sh
# What udhcpc runs on each event; busybox ash only.
case "$1" in
deconfig)
    ip addr flush dev "$interface"
    ip link set "$interface" up
    ;;
bound | renew)
    ip addr flush dev "$interface"
    ip addr add "$ip/${mask:-24}" dev "$interface"
    for hop in $router; do
        ip route replace default via "$hop" dev "$interface"
        break
    done
    : >/etc/resolv.conf
    for server in $dns; do
        echo "nameserver $server" >>/etc/resolv.conf
    done
    echo "$ip" >/run/address
    ;;
esac
