# Start-up until the server serves, its memory, and how long an edit takes until it is live.
bench_scale() {
    local count round begun
    for count in 10 100000; do
        configure off
        "$load" inventory --state "$state/state" --systems "$count" --tree "$work/files/tree"
        for round in $(seq "$runs"); do
            begun=$(date +%s%N)
            ours
            echo $((($(date +%s%N) - begun) / 1000000)) >>"$work/start.$count"
            local edit=("${on_server[@]}" "$server" --config "$state/cordwainer.toml" --state "$state/state" system edit s7 --comment "round $round")
            begun=$(date +%s%N)
            "${edit[@]}" >/dev/null
            echo $((($(date +%s%N) - begun) / 1000000)) >>"$work/edit.$count"
            awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$(pgrep -P "$child" 2>/dev/null || echo "$child")/status" >>"$work/rss.$count"
            stop "$child"
        done
    done
    alone 'start with 10 systems' ms '-' 'until it serves; polled every 10 ms' "$work/start.10"
    alone 'start with 100,000 systems' ms 1500 'until it serves; polled every 10 ms' "$work/start.100000"
    alone 'memory with 10 systems' MiB 40 'resident, after an edit' "$work/rss.10"
    alone 'memory with 100,000 systems' MiB 250 'resident, after an edit' "$work/rss.100000"
    alone 'an edit with 10 systems' ms '-' 'a process of its own, until the server serves it; durable' "$work/edit.10"
    alone 'an edit with 100,000 systems' ms 100 'a process of its own, until the server serves it; durable' "$work/edit.100000"
}
