# DHCP: newcomers at a fixed rate, each asking once, from the place of a relay. Every run starts on an empty lease table.
# Ours: every ACK waits for its row on disk (fsync). Kea's memfile appends to a file without fsync. dnsmasq writes its file now and then.
kea_config() {
    cat >"$work/kea.json" <<END
{ "Dhcp4": { "interfaces-config": { "interfaces": [ "eth0/10.64.0.1" ], "dhcp-socket-type": "udp" },
  "lease-database": { "type": "memfile", "persist": true, "lfc-interval": 0, "name": "$1/leases.csv" },
  "multi-threading": { "enable-multi-threading": true, "thread-pool-size": 2, "packet-queue-size": 64 },
  "valid-lifetime": 3600, "control-socket": { "socket-type": "unix", "socket-name": "$1/kea.sock" },
  "subnet4": [ { "subnet": "10.64.0.0/10", "pools": [ { "pool": "10.80.0.0-10.95.255.255" } ] } ],
  "loggers": [ { "name": "kea-dhcp4", "severity": "WARN", "output_options": [ { "output": "stdout" } ] } ] } }
END
}

# dora NAME RATE SERVER: one run; its five figures go to files of their own.
dora() {
    local figures
    figures=$("${on_client[@]}" "$load" dora --server "$3:67" --relay 10.64.0.2:67 --rate "$2" --seconds $((seconds + 1)) --run $((RANDOM % 250)))
    set -- "$1" "$2" $figures
    echo "$3" >>"$work/dora.$2.$1"
    echo "$5" >>"$work/dora99.$2.$1"
}

bench_dhcp() {
    local rate round folder
    for rate in 1000 5000 10000 20000; do
        for round in $(seq "$runs"); do
            configure authoritative
            ours
            dora ours "$rate" 10.64.0.1
            stop "$child"
            rm -rf "$state"

            folder=$(mktemp -d "$work/kea.XXXX")
            kea_config "$folder"
            KEA_PIDFILE_DIR=$folder KEA_LOCKFILE_DIR=$folder start_quiet -u kea 10.64.0.1:67 kea-dhcp4 -c "$work/kea.json"
            dora kea "$rate" 10.64.0.1
            stop "$child"
            rm -rf "$folder"

            if [ "$rate" -le 5000 ]; then
                folder=$(mktemp -d "$work/dnsmasq.XXXX")
                start_quiet -u dnsmasq-dhcp :67 dnsmasq -k --log-facility=/dev/null --conf-file=/dev/null --port=0 --quiet-dhcp --no-ping \
                    --dhcp-range=10.80.0.0,10.95.255.254,255.192.0.0,1h --dhcp-lease-max=1000000 \
                    --dhcp-leasefile="$folder/leases" --dhcp-authoritative --interface=eth0 --bind-interfaces --user=root
                dora dnsmasq "$rate" 10.64.0.1
                stop "$child"
                rm -rf "$folder"
            fi

            # What the generator reaches alone does not change from round to round.
            if [ "$round" -le 2 ]; then
                start ceiling serving "$load" dora-ceiling --listen 10.64.0.6:67
                dora ceiling "$rate" 10.64.0.6
                stop "$child"
            fi
        done
        local note='both from the place of a relay, newcomers only; ours: fsync before every ACK; Kea: memfile, appends without fsync'
        local busy='generator, server and its disk share two cores, which are full'
        row "DORA/s, $rate offered" '/s' more Kea "$note" "$work/dora.$rate.ours" "$work/dora.$rate.kea" "$(median "$work/dora.$rate.ceiling")" "$busy"
        local cause='strace: an ACK waits for one fsync, or two when one is under way, of 0.2-0.4 ms each on an idle disk; Kea waits for none'
        [ "$rate" -lt 20000 ] || cause='perf: both cores are full; Kea leaves those unanswered that it cannot follow and is quick with the others, we answer nearly all'
        row "DORA p99, $rate offered" ms less Kea 'from DISCOVER to ACK, of those that were answered' "$work/dora99.$rate.ours" "$work/dora99.$rate.kea" \
            "$(median "$work/dora99.$rate.ceiling")" "$cause" 2
        [ "$rate" -gt 5000 ] || row "DORA/s, $rate offered" '/s' more dnsmasq 'ours as above; dnsmasq: lease file without fsync, --no-ping' \
            "$work/dora.$rate.ours" "$work/dora.$rate.dnsmasq" "$(median "$work/dora.$rate.ceiling")"
    done
    # The same question in another tool's words: perfdhcp sees what our generator sees.
    for round in $(seq "$runs"); do
        configure authoritative
        ours
        "${on_client[@]}" perfdhcp -4 -r 5000 -R 1000000 -p $((seconds + 2)) -l eth0 10.64.0.1 2>/dev/null |
            awk '/^Rate: / { print int($2) }' >>"$work/perfdhcp" || true
        stop "$child"
        rm -rf "$state"
    done
    alone 'DORA/s by perfdhcp, 5000 offered' '/s' 5000 'perfdhcp of kea-admin; ours: fsync before every ACK' "$work/perfdhcp" more
}
