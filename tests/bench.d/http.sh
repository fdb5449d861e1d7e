# HTTP: the same files from nginx (sendfile, a worker a core) and from us; answer files are rendered anew for each request.

# nginx_serves WHAT: nginx on 10.64.0.3:8088 with sendfile, no log, a worker a core; WHAT is its `server` block's content.
nginx_serves() {
    cat >"$work/nginx.conf" <<END
worker_processes auto; daemon off; pid $work/nginx.pid; error_log stderr crit; user root;
events { worker_connections 4096; }
http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; open_file_cache max=1000;
  client_body_temp_path $work/nb; proxy_temp_path $work/np; fastcgi_temp_path $work/nf; uwsgi_temp_path $work/nu; scgi_temp_path $work/ns;
  server { listen 10.64.0.3:8088; $1 } }
END
    start_quiet -t nginx 10.64.0.3:8088 nginx -c "$work/nginx.conf"
}

bench_http() {
    local pids=() count round name path figures
    configure off
    "$load" inventory --state "$state/state" --systems 10 --armed yes --tree "$work/files/tree"
    ours && pids+=("$child")
    nginx_serves "root $work/files;" && pids+=("$child")
    start ceiling serving "$load" http-ceiling --listen 10.64.0.6:8090 && pids+=("$child")
    for count in 1 8; do
        for round in $(seq "$runs"); do
            for name in ours:10.64.0.1:8080 nginx:10.64.0.3:8088 ceiling:10.64.0.6:8090; do
                figures=$("${on_client[@]}" "$load" http --server "${name#*:}" --path /l/large.efi --clients "$count" --seconds "$seconds")
                echo "${figures%% *}" >>"$work/http.$count.${name%%:*}"
            done
        done
        row "HTTP $count client(s), 256 MiB file" GB/s more nginx 'page cache; nginx: sendfile; ours: counted, named, resumable' \
            "$work/http.$count.ours" "$work/http.$count.nginx" "$(median "$work/http.$count.ceiling")"
    done
    # A machine that asks for its script again boots again, and is held after the third time: each round has one of its own.
    for round in $(seq "$runs"); do
        figures=$("${on_client[@]}" "$load" http --server 10.64.0.1:8080 --path "script:/b/52-54-00-00-00-$(printf %02x "$((round % 10))")/ipxe" --clients 8 --seconds "$seconds")
        set -- $figures
        echo "$2" >>"$work/answers.ours"
        figures=$("${on_client[@]}" "$load" http --server 10.64.0.3:8088 --path /small --clients 8 --seconds "$seconds")
        set -- $figures
        echo "$2" >>"$work/answers.nginx"
    done
    row 'answer files per second' '/s' more nginx 'ours: rendered for each request; nginx: a small static file' "$work/answers.ours" "$work/answers.nginx" - \
        'callgrind: sixty variables are gathered and a template with nine snippets is run; then the state task is asked whether the installation still stands'
    for name in "${pids[@]}"; do stop "$name"; done
}
