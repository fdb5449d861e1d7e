# Import: a DVD of 4.7 GB served in place, beside the copy of its tree that others begin with; and HTTP out of it, beside nginx on the file.
bench_import() {
    local pids=() count round name figures dvd=$work/dvd image=$work/dvd.iso rounds=$((runs < 3 ? runs : 3))
    # As a DVD of the Red Hat family is: a few thousand packages, an installer of a quarter of a gigabyte. Holes cost neither disk nor time to read.
    mkdir -p "$dvd"/{images/pxeboot,BaseOS/{repodata,Packages},EFI/BOOT}
    printf '[general]\narch = x86_64\nfamily = Rocky Linux\nname = Rocky Linux 9.4\nversion = 9.4\n[header]\ntype = productmd.treeinfo\nversion = 1.2\n[images-x86_64]\nkernel = images/pxeboot/vmlinuz\ninitrd = images/pxeboot/initrd.img\n[release]\nname = Rocky Linux\nshort = Rocky\nversion = 9.4\n[stage2]\nmainimage = images/install.img\n[tree]\narch = x86_64\n' >"$dvd/.treeinfo"
    echo '<repomd/>' >"$dvd/BaseOS/repodata/repomd.xml"
    head -c 13000000 /dev/urandom >"$dvd/images/pxeboot/vmlinuz"
    head -c 100000000 /dev/urandom >"$dvd/images/pxeboot/initrd.img"
    head -c 268435456 /dev/zero >"$dvd/images/install.img"
    for count in $(seq 4300); do echo "$dvd/BaseOS/Packages/package-$count-1.0-1.el9.x86_64.rpm"; done | xargs truncate -s 1000000
    xorriso -as mkisofs -quiet -iso-level 3 -r -J -joliet-long -V Rocky-9-4-x86_64-dvd -o "$image" "$dvd" 2>/dev/null
    # What is zeros need not lie on the disk.
    fallocate --dig-holes "$image"
    configure off
    "$load" inventory --state "$state/state" --systems 1 --armed no --tree "$work/files/tree"
    for round in $(seq "$rounds"); do
        measured "$server" --config "$state/cordwainer.toml" --state "$state/state" import --path "$image" --name "dvd$round" --in-place
        echo "${figures% *}" >>"$work/import.ours"
        echo "${figures#* }" >>"$work/import.memory"
        measured rsync -a "$dvd/" "$work/copy/"
        echo "${figures% *}" >>"$work/import.rsync"
        rm -rf "$work/copy"
    done
    row 'import of an ISO of 4.7 GB, 4,300 files' s less rsync 'ours: in place, the image judged whole, two objects stored; rsync -a: its unpacked tree' \
        "$work/import.ours" "$work/import.rsync"
    alone 'import of an ISO of 4.7 GB, aim' s 1 'the same runs' "$work/import.ours"
    alone 'import of an ISO of 4.7 GB, memory' MiB 64 'the largest resident set' "$work/import.memory"
    ours && pids+=("$child")
    nginx_serves "location /d/dvd1/ { alias $dvd/; }" && pids+=("$child")
    for count in 1 8; do
        for round in $(seq "$runs"); do
            for name in ours:10.64.0.1:8080 nginx:10.64.0.3:8088; do
                figures=$("${on_client[@]}" "$load" http --server "${name#*:}" --path /d/dvd1/images/install.img --clients "$count" --seconds "$seconds")
                echo "${figures%% *}" >>"$work/iso.$count.${name%%:*}"
            done
        done
        row "HTTP $count client(s), 256 MiB file of an ISO" GB/s more nginx 'ours: out of the image; nginx: the same file, unpacked' \
            "$work/iso.$count.ours" "$work/iso.$count.nginx"
    done
    for name in "${pids[@]}"; do stop "$name"; done
    rm -rf "$dvd" "$image"
}
# measured COMMAND...: runs it, and puts its seconds and the MiB of its largest resident set into $figures.
measured() {
    figures=$(python3 - "$@" <<'END'
import os, sys, time
begun = time.monotonic()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
_, status, usage = os.wait4(child, 0)
if status:
    sys.exit(f"{sys.argv[1:]} ended with {status}")
print(f"{time.monotonic() - begun:.3f} {usage.ru_maxrss / 1024:.1f}")
END
    )
}
