# TFTP: the same file of 16 MB from all servers, all of them up, asked in turns. Nothing durable is involved on any side.
bench_tftp() {
    local pids=() name count window size round key
    configure off
    ours && pids+=("$child")
    start_quiet -u hpa 10.64.0.3:69 "$peers/tftpd-hpa/usr/sbin/in.tftpd" -L -4 -a 10.64.0.3:69 -s "$work/tftp" && pids+=("$child")
    start_quiet -u atftpd 10.64.0.4:69 "$peers/atftpd/usr/sbin/atftpd" --daemon --no-fork --logfile /dev/null --verbose=0 --user root --group root --bind-address 10.64.0.4 "$work/tftp" && pids+=("$child")
    start_quiet -u dnsmasq 10.64.0.5:69 dnsmasq -k --log-facility=/dev/null --conf-file=/dev/null --port=0 --enable-tftp --tftp-root="$work/tftp" --listen-address=10.64.0.5 --bind-interfaces --user=root && pids+=("$child")
    start ceiling serving "$load" tftp-ceiling --listen 10.64.0.6:69 && pids+=("$child")
    start async-tftp serving "$load" async-tftp --listen 10.64.0.7:69 --folder "$work/tftp" && pids+=("$child")
    start async-tftp serving "$load" async-tftp --listen 10.64.0.8:69 --folder "$work/tftp" --memory true && pids+=("$child")
    declare -A at=([async-tftp]=10.64.0.7:69 [async-tftp-in-memory]=10.64.0.8:69 [ours]=10.64.0.1:6969 [tftpd-hpa]=10.64.0.3:69 [atftpd]=10.64.0.4:69 [dnsmasq]=10.64.0.5:69 [ceiling]=10.64.0.6:69)
    for count in 1 16; do
        for window in 1 8 64 512-byte; do
            size=1468 blocks=$window
            [ "$window" != 512-byte ] || { size=512 blocks=1; }
            key=tftp.$count.$window
            for round in $(seq "$runs"); do
                for name in ours tftpd-hpa atftpd dnsmasq async-tftp async-tftp-in-memory ceiling; do
                    "${on_client[@]}" "$load" tftp --server "${at[$name]}" --from 10.80.0.1 --clients "$count" --window "$blocks" \
                        --blksize "$size" --seconds "$seconds" >>"$work/$key.$name"
                done
            done
            local top aim=1 cause='' note='files from the page cache, every block acknowledged as asked'
            [ "$blocks" != 8 ] || { aim=3 cause='three times the peer is above what the generator alone reaches (its column): on idle processors each window costs it a wake-up'; }
            top=$(best "$work/$key".{tftpd-hpa,atftpd,dnsmasq})
            [ "$blocks" = 1 ] || note='tftpd-hpa and dnsmasq know no window; best of three'
            row "TFTP $count client(s), $size-byte blocks, window $blocks" MB/s more "${top##*.}" "$note" \
                "$work/$key.ours" "$top" "$(median "$work/$key.ceiling")" "$cause" "$aim"
            # A crate, not a server: what our engine is measured against, from the page cache as ours and from memory.
            for name in async-tftp async-tftp-in-memory; do
                row "TFTP $count client(s), $size-byte blocks, window $blocks" MB/s more "$name" \
                    'the engine that ours replaces; README' "$work/$key.ours" "$work/$key.$name" "$(median "$work/$key.ceiling")"
            done
        done
    done
    # The same with a reader that never sleeps, as firmware's never does: what is left is the servers' own time.
    for round in $(seq "$runs"); do
        for name in ours atftpd ceiling; do
            "${on_client[@]}" "$load" tftp --server "${at[$name]}" --from 10.80.0.1 --window 8 --blksize 1468 --poll true --seconds "$seconds" >>"$work/tftp.poll.$name"
        done
    done
    row 'TFTP 1 client(s) that polls, 1468-byte blocks, window 8' MB/s more atftpd 'the reader looks for packets without sleeping, as firmware does' \
        "$work/tftp.poll.ours" "$work/tftp.poll.atftpd" "$(median "$work/tftp.poll.ceiling")" '' 3
    for name in "${pids[@]}"; do stop "$name"; done
}
