# Cobbler 3.3.10 itself, from PyPI, beside ours: the same calls of the same client to both, one after the other. Its daemon is asked
# without the web server in front of it, its web service under gunicorn.
bench_cobbler() {
    local pids=() real=$work/cobbler venv=$PWD/target/cobbler round figures systems=${BENCH_SYSTEMS:-1000} rounds=$((runs < 3 ? runs : 3))
    local password='a word for tests' peer='Cobbler 3.3.10'
    ./tests/cobbler/real install "$venv"
    dpkg-query -W -f='${Status}' file 2>/dev/null | grep -q '^install ok installed' ||
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends file >/dev/null
    ./tests/cobbler/real prepare "$real" "$venv" 25151 8085 10.64.0.3
    configure off
    sed -i 's/^allow = .*/allow = ["10.64.0.0\/10", "127.0.0.0\/8"]/' "$state/cordwainer.toml"
    echo "$password" | "$server" --config "$state/cordwainer.toml" --state "$state/state" user add admin >/dev/null
    real_starts() { start cobblerd 'Cobbler startup completed' ./tests/cobbler/real serve "$real" "$venv"; }
    real_starts && pids=("$child")
    ours && pids+=("$child")
    # asked SIDE ROW ARGUMENTS...: the seconds go to the row's file.
    asked() {
        local side=$1 file=$2 where=(--server 127.0.0.1:25151 --path /RPC2)
        shift 2
        [ "$side" = cobbler ] || where=(--server 10.64.0.1:8080 --path /cobbler_api)
        "${on_server[@]}" "$load" cobbler "${where[@]}" --user admin --password "$password" --systems "$systems" "$@" >>"$work/cobbler.$file.$side"
    }
    asked ours make --what distro --tree "$work/files/tree" --template redhat/el9.ks
    asked cobbler make --what distro --tree "$work/files/tree" --template sample.ks
    asked ours add --what add
    asked cobbler add --what add
    for round in $(seq "$rounds"); do
        for side in ours cobbler; do
            asked "$side" sync --what sync
            asked "$side" profile --what profile --round "$round"
            asked "$side" systems --what systems
        done
    done
    row "$systems systems added by XML-RPC" s less "$peer" 'five calls each; ours: each durable and served before it is answered, more than half of it the fsync; Cobbler: no fsync' \
        "$work/cobbler.add.ours" "$work/cobbler.add.cobbler" - 'each save waits for the disk (fsync), which Cobbler does not' 100
    # What has nothing to write takes no time that a clock of milliseconds shows.
    row "sync with $systems systems" s less "$peer" 'Cobbler writes two files a system; ours has none to write' \
        "$work/cobbler.sync.ours" "$work/cobbler.sync.cobbler" - '' 100
    row "profile edited, $systems systems below it" s less "$peer" 'three calls; durable and served; Cobbler: no fsync' \
        "$work/cobbler.profile.ours" "$work/cobbler.profile.cobbler" - '' 100
    # The documents of the command line do the same at once, which Cobbler has no way to.
    applied() {
        local number
        for number in $(seq "$systems"); do
            printf '[[system]]\nname = "a%d"\nprofile = "bench"\n[system.interfaces.eth0]\nmac_address = "52:54:01:00:%02x:%02x"\nip_address = "10.66.%d.%d"\n' \
                "$number" $((number / 250)) $((number % 250)) $((number / 250)) $((number % 250 + 1))
        done >"$work/many.toml"
        local begun
        begun=$(date +%s%N)
        "${on_server[@]}" "$server" --config "$state/cordwainer.toml" --state "$state/state" apply "$work/many.toml" >/dev/null
        echo $((($(date +%s%N) - begun) / 1000000)) | awk '{ print $1 / 1000 }' >"$work/cobbler.apply.ours"
    }
    row "get_systems of $systems" s less "$peer" 'the whole structs, to the last byte' "$work/cobbler.systems.ours" "$work/cobbler.systems.cobbler"
    applied
    row "$systems systems added at once" s less "$peer" 'ours: one document by apply, durable and served; Cobbler knows only the calls of the first row' \
        "$work/cobbler.apply.ours" "$work/cobbler.add.cobbler" - '' 100
    # A restart: from the start of the process to the first answer.
    for round in $(seq "$rounds"); do
        stop "${pids[0]}"
        "${on_server[@]}" ./tests/cobbler/real serve "$real" "$venv" >"$work/cobblerd.again.log" 2>&1 </dev/null &
        pids[0]=$!
        children+=("$!")
        asked cobbler restart --what ping
        stop "${pids[1]}"
        "${on_server[@]}" "$server" --config "$state/cordwainer.toml" --state "$state/state" serve --i-own-this-subnet >"$work/ours.again.log" 2>&1 </dev/null &
        pids[1]=$!
        children+=("$!")
        asked ours restart --what ping
    done
    row "restart with $systems systems" s less "$peer" 'until the first answer' "$work/cobbler.restart.ours" "$work/cobbler.restart.cobbler"
    stop "${pids[1]}"
    # Answer files: of an armed machine here, with its token; of a system there.
    configure off
    "$load" inventory --state "$state/state" --systems 10 --armed yes --tree "$work/files/tree"
    ours && pids[1]=$child
    start front 'Booting worker' ./tests/cobbler/real front "$real" "$venv" 10.64.0.3:8085 && pids+=("$child")
    for round in $(seq "$rounds"); do
        figures=$("${on_client[@]}" "$load" http --server 10.64.0.1:8080 --path "script:/b/52-54-00-00-00-$(printf %02x "$((round % 10))")/ipxe" --clients 8 --seconds "$seconds")
        set -- $figures
        echo "$2" >>"$work/cobbler.answers.ours"
        echo "$3" >>"$work/cobbler.p99.ours"
        figures=$("${on_client[@]}" "$load" http --server 10.64.0.3:8085 --path /cblr/svc/op/autoinstall/system/s7 --clients 8 --seconds "$((seconds * 2))")
        set -- $figures
        echo "$2" >>"$work/cobbler.answers.cobbler"
        echo "$3" >>"$work/cobbler.p99.cobbler"
    done
    row 'answer files per second, 8 clients' '/s' more "$peer" 'each rendered for its request; Cobbler: gunicorn, four processes of four threads' \
        "$work/cobbler.answers.ours" "$work/cobbler.answers.cobbler" - '' 100
    row 'answer files, p99, 8 clients' ms less "$peer" 'the same runs' "$work/cobbler.p99.ours" "$work/cobbler.p99.cobbler"
    for round in "${pids[@]}"; do stop "$round"; done
}
