# Guests: the XML of both phases for the same guest, printed and not used, beside virt-install's on libvirt's test driver.
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
}
