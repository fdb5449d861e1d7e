//! `install-service` on the whole host, which is this one seen through overlays that vanish with the test's mount namespace.

use super::missing_tool;
use std::process::Command;

/// Runs in a mount namespace of its own; `$1` is the binary, `$2` an empty folder.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs tmpfs "$2"
for folder in /etc /usr/local /var/lib; do
  name=$(echo "$folder" | tr / _)
  mkdir -p "$2/$name/upper" "$2/$name/work"
  mount -t overlay overlay -o "lowerdir=$folder,upperdir=$2/$name/upper,workdir=$2/$name/work" "$folder"
done
rm -rf /etc/cordwainer /var/lib/cordwainer
cd /
"$1" -q install-service
"$1" -q install-service | grep -v -e unchanged -e '^ran' && exit 3
"$1" config check
stat -c '%U %a' /var/lib/cordwainer /etc/cordwainer/cordwainer.toml
"$1" distro add d1 --arch x86_64 --breed generic --kernel /bin/true
stat -c '%U %a' /var/lib/cordwainer/inventory.db
cp "$1" /usr/local/bin/cordwainer
setpriv --reuid cordwainer --regid cordwainer --clear-groups cordwainer distro list
"#;

#[test]
fn the_service_is_installed_and_root_and_the_service_share_the_state() {
    if missing_tool("systemd-sysusers", "systemd") || missing_tool("setpriv", "util-linux") {
        return;
    }
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if !root {
        assert!(
            std::env::var("CORDWAINER_REQUIRE_ALL").as_deref() != Ok("1"),
            "this test needs root"
        );
        eprintln!("SKIPPED: this test needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["-m", "bash", "-c", SCRIPT, "bash", env!("CARGO_BIN_EXE_cordwainer")])
        .arg(folder.path())
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}{err}");
    let tail: Vec<&str> = out.lines().rev().take(6).collect();
    let expected = [
        "d1",
        "cordwainer 600",
        "added     distro d1, stored",
        "root 640",
        "cordwainer 700",
        "/etc/cordwainer/cordwainer.toml is well: proxy DHCP, 0 subnets",
    ];
    assert_eq!(tail, expected, "{out}{err}");
}
