# A storm: machines that are all on record and armed are switched on within a second, each walks its whole way. Kernel and initrd are a tenth of real ones: what is measured is how many, not how much.
bench_storm() {
    local machines=${BENCH_STORM:-5000} round figures
    for round in $(seq "$runs"); do
        configure authoritative "$work/real"
        "$load" inventory --state "$state/state" --systems "$machines" --armed yes --tree "$work/files/tree"
        ours
        figures=$("${on_client[@]}" "$load" storm --server 10.64.0.1 --tftp 6969 --machines "$machines")
        set -- $figures
        echo "$1" >>"$work/storm.acked"
        echo "$2" >>"$work/storm.p99"
        echo "$3" >>"$work/storm.done"
        echo "$4" >>"$work/storm.took"
        stop "$child"
        rm -rf "$state"
    done
    alone "storm of $machines: first ACK in 4 s" '%' 99 'fsync before every ACK; all switched on within a second' "$work/storm.acked" more
    alone "storm of $machines: p99 of the first ACK" ms 4000 'from the first DISCOVER, repeats after 4, 8, 16 s' "$work/storm.p99"
    alone "storm of $machines: whole way walked" '%' 100 'loader by TFTP, script, kernel, answer file, reports' "$work/storm.done" more
    alone "storm of $machines: until the last is done" s '-' 'generator and server share the cores' "$work/storm.took"
}
