# Guests: the XML of both phases for the same guest, printed and not used, beside virt-install's on libvirt's test driver; and from the
# command to a domain that runs, on a libvirtd of the benchmark's own.
bench_guests() {
    local round begun ours peer
    command -v virt-install >/dev/null || {
        echo 'installing the peer virtinst'
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends virtinst >/dev/null
    }
    configure off
    ours=("$server" --config "$state/cordwainer.toml" --state "$state/state")
    "${ours[@]}" distro add bench --tree "$work/files/tree" --kernel vmlinuz --initrd initrd.img --arch x86_64 --kernel-options console=ttyS0 >/dev/null
    "${ours[@]}" profile add bench --distro bench >/dev/null
    ours+=(guest create web1 --profile bench --memory 2048 --vcpus 2 --disk 20 --network bridge=br0 --print-xml)
    peer=(virt-install --connect test:///default --name web1 --memory 2048 --vcpus 2 --disk size=20 --network bridge=br0 --graphics none
        --osinfo detect=off,require=off --print-xml
        --install "kernel=$work/files/tree/vmlinuz,initrd=$work/files/tree/initrd.img,kernel_args=console=ttyS0")
    for round in $(seq "$runs"); do
        begun=$(date +%s%N)
        "${ours[@]}" >"$work/guest.xml" 2>/dev/null
        echo $((($(date +%s%N) - begun) / 1000000)) >>"$work/xml.ours"
        begun=$(date +%s%N)
        "${peer[@]}" >"$work/peer.xml" 2>/dev/null
        echo $((($(date +%s%N) - begun) / 1000000)) >>"$work/xml.virtinst"
        [ "$(grep -c '^<domain' "$work/guest.xml")" = 2 ] && [ "$(grep -c '^<domain' "$work/peer.xml")" = 2 ]
    done
    row 'XML of a guest, both phases' ms less virt-install 'a process each; ours: with the profile from the inventory and the installer'"'"'s command line' \
        "$work/xml.ours" "$work/xml.virtinst"
    guests_running
}

guests_running() {
    local rig=$work/libvirt uri name round began pids=() beside libvirtd
    # A libvirtd of our own: in a mount namespace where libvirt's folders are the benchmark's.
    mkdir -p "$rig"/{run,lib/qemu,lib/boot,etc,log/qemu,cache,pool}
    printf 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\ncgroup_controllers = []\nremember_owner = 0\n' >"$rig/etc/qemu.conf"
    printf 'auth_unix_rw = "none"\nauth_unix_ro = "none"\n' >"$rig/etc/libvirtd.conf"
    cat >"$rig/inside" <<END
set -e
for place in run:run lib:var/lib etc:etc log:var/log cache:var/cache; do
    mkdir -p "/\${place#*:}/libvirt"
    mount --bind "$rig/\${place%%:*}" "/\${place#*:}/libvirt"
done
exec "\$@"
END
    uri="qemu:///system?socket=$rig/run/libvirt-sock"
    for name in virtlogd libvirtd; do
        "${on_server[@]}" sh "$rig/inside" "/usr/sbin/$name" -p "/run/libvirt/$name.pid" >"$work/$name.log" 2>&1 &
        children+=("$!") pids+=("$!") libvirtd=$!
    done
    # The peer puts kernels where it believes that libvirtd looks, so it must look there too.
    beside=(nsenter -t "$libvirtd" -m -n)
    for _ in $(seq 300); do ! virsh -q -c "$uri" list >/dev/null 2>&1 || break; sleep 0.05; done
    virsh -q -c "$uri" pool-create-as default dir --target "$rig/pool" >/dev/null
    "${on_server[@]}" ip link show br0 >/dev/null 2>&1 || { "${on_server[@]}" ip link add br0 type bridge; "${on_server[@]}" ip link set br0 up; }

    configure off
    ours && pids+=("$child")
    # The daemon's own command line; the guest's installer is never waited for.
    at_ours() { "${on_server[@]}" "$server" --config "$state/cordwainer.toml" --state "$state/state" --quiet "$@"; }
    # A kernel that QEMU takes as one: iPXE's.
    mkdir "$rig/tree"
    cp /usr/lib/ipxe/ipxe.lkrn "$rig/tree/vmlinuz"
    cp "$work/files/tree/initrd.img" "$rig/tree/"
    at_ours import --path "$rig/tree" --name bench --breed generic --kernel vmlinuz --initrd initrd.img >/dev/null
    at_ours profile edit bench --autoinstall lab/answer >/dev/null
    start supervisor connected "$server" --config "$state/cordwainer.toml" --state "$state/state" guest supervise --connect "$uri" && pids+=("$child")
    # Whether KVM runs guests is tried once in a supervisor's life: before the first row.
    at_ours guest check --connect "$uri" >/dev/null 2>&1 || true

    gone() { virsh -q -c "$uri" destroy "$1" >/dev/null 2>&1 || true; virsh -q -c "$uri" undefine --nvram "$1" >/dev/null 2>&1 || true; rm -f "$rig/pool/$1.qcow2"; }
    clocked() {
        local file=$1
        shift
        began=$(date +%s.%N)
        "$@" >/dev/null 2>"$work/guests.err" || { cat "$work/guests.err" >&2; exit 1; }
        echo "$(date +%s.%N) $began" | awk '{ printf "%.3f\n", $1 - $2 }' >>"$work/guests.$file"
    }
    local rounds=$((runs < 3 ? runs : 3))
    qemu-img create -q -f qcow2 "$rig/pool/golden.qcow2" 3G
    for round in $(seq "$rounds"); do
        qemu-img create -q -f qcow2 "$rig/pool/there.qcow2" 1G
        clocked import.ours at_ours guest create "ours$round" --connect "$uri" --method import --disk volume=there.qcow2 \
            --network bridge=br0 --memory 256 --accel tcg
        gone "ours$round"
        clocked import.peer "${beside[@]}" virt-install --connect "$uri" --name "peer$round" --import --disk "$rig/pool/there.qcow2" \
            --network bridge=br0 --memory 256 --virt-type qemu --osinfo linux2022 --graphics none --noautoconsole --noreboot
        gone "peer$round"
        clocked kernel.ours at_ours guest create "kernel$round" --profile bench --connect "$uri" --disk 1 \
            --network bridge=br0 --memory 256 --accel tcg
        gone "kernel$round"
        clocked kernel.peer "${beside[@]}" virt-install --connect "$uri" --name "peer$round" --disk "size=1,pool=default,format=qcow2" \
            --install "kernel=$rig/tree/vmlinuz,initrd=$rig/tree/initrd.img,kernel_args=console=ttyS0" \
            --network bridge=br0 --memory 256 --virt-type qemu --osinfo linux2022 --graphics none --noautoconsole --noreboot
        gone "peer$round"
        clocked clone at_ours guest clone "clone$round" --from golden.qcow2 --connect "$uri" --network bridge=br0 --memory 256 --accel tcg
        gone "clone$round"
    done
    row 'guest, existing disk, create to running' s less virt-install 'ours: defined, started, noted; virt-install --import --noautoconsole' \
        "$work/guests.import.ours" "$work/guests.import.peer"
    row 'guest, by kernel, create to running' s less virt-install 'ours: on record, armed, kernel and initrd uploaded and named by content, defined, started' \
        "$work/guests.kernel.ours" "$work/guests.kernel.peer"
    alone 'guest, thin clone to running' s 14 'a volume on a golden one, defined, started; 14 s is what building a disk from a bundle takes without one' \
        "$work/guests.clone"
    for name in $(virsh -q -c "$uri" list --name); do gone "$name"; done
    for name in "${pids[@]}"; do stop "$name"; done
}
