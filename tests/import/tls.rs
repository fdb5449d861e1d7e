//! `import --path https://...`: from a server whose certificate the system, or the file that SSL_CERT_FILE names, vouches for, and from no
//! other. The authority is made by openssl, the server is Python's.

use super::{Bench, lab};
use crate::cli::Session;
use crate::iso::medium::{XORRISO, press};
use crate::lab::child::Child;
use crate::lab::need::{self, Need};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const OPENSSL: Need = Need::Program("openssl", "openssl");
const PYTHON: Need = Need::Program("python3", "python3");

const SERVER: &str = r#"
import functools, http.server, ssl, sys
folder, certificate, key = sys.argv[1:]
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("port", server.server_address[1], flush=True)
server.serve_forever()
"#;

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority of its own in `folder`, by name.
fn authority(folder: &Path, name: &str) -> PathBuf {
    openssl(
        folder,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN={name}"),
            "-addext",
            "keyUsage=critical,keyCertSign",
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.pem"),
        ],
    );
    folder.join(format!("{name}.pem"))
}

/// A server's certificate for `names`, signed by the authority `by`, that holds for `days`.
fn certificate(folder: &Path, name: &str, names: &str, by: &str, days: &str) {
    openssl(
        folder,
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.csr"),
        ],
    );
    fs::write(
        folder.join(format!("{name}.ext")),
        format!("basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName={names}\n"),
    )
    .unwrap();
    openssl(
        folder,
        &[
            "x509",
            "-req",
            "-in",
            &format!("{name}.csr"),
            "-CA",
            &format!("{by}.pem"),
            "-CAkey",
            &format!("{by}.key"),
            "-CAcreateserial",
            "-days",
            days,
            "-extfile",
            &format!("{name}.ext"),
            "-out",
            &format!("{name}.pem"),
        ],
    );
}

/// A server of `folder` with the certificate `name` of `keys`, and its port.
fn serve(folder: &Path, keys: &Path, name: &str) -> (Child, u16) {
    let mut command = Command::new("python3");
    command.arg("-c").arg(SERVER).arg(folder);
    command
        .arg(keys.join(format!("{name}.pem")))
        .arg(keys.join(format!("{name}.key")));
    let mut child = Child::start("https", &mut command);
    let line = child.wait_for_line("port ", Duration::from_secs(30));
    let port = line.rsplit(' ').next().unwrap().trim().parse().unwrap();
    (child, port)
}

#[test]
fn an_image_comes_by_https_from_whom_an_authority_vouches_for_and_from_nobody_else() {
    if !need::all("import::tls", &[&[XORRISO, OPENSSL, PYTHON]]) {
        return;
    }
    let bench: Bench = lab();
    let keys = tempfile::tempdir().unwrap();
    let pub_folder = tempfile::tempdir().unwrap();
    let image = pub_folder.path().join("lab.iso");
    press(&bench.tree(), &image, &["-r"]);
    let bytes = fs::read(&image).unwrap();
    let summed = Command::new("sha256sum")
        .arg("lab.iso")
        .current_dir(pub_folder.path())
        .output();
    fs::write(pub_folder.path().join("SHA256SUMS"), summed.unwrap().stdout).unwrap();
    let ours = authority(keys.path(), "ours");
    let theirs = authority(keys.path(), "theirs");
    certificate(keys.path(), "good", "IP:127.0.0.1,DNS:localhost", "ours", "1");
    certificate(keys.path(), "another", "DNS:mirror.example", "ours", "1");
    certificate(keys.path(), "late", "IP:127.0.0.1", "ours", "-1");
    let session = Session::new();
    let import = |port: u16, trust: Option<&Path>| {
        let url = format!("https://127.0.0.1:{port}/lab.iso");
        let sums = format!("https://127.0.0.1:{port}/SHA256SUMS");
        let arguments = [
            "import",
            "--path",
            &url,
            "--name",
            "far",
            "--checksum",
            &sums,
            "--allow-local-address",
            "--timeout",
            "5",
        ];
        let trust = trust.map(|path| path.to_str().unwrap().to_owned());
        let environment: Vec<(&str, &str)> = trust.iter().map(|path| ("SSL_CERT_FILE", path.as_str())).collect();
        session.run_with(&arguments, &environment, "")
    };
    let (_good, port) = serve(pub_folder.path(), keys.path(), "good");
    let nothing = keys.path().join("no.pem");
    let (_another, named) = serve(pub_folder.path(), keys.path(), "another");
    let (_late, late) = serve(pub_folder.path(), keys.path(), "late");
    for (what, port, trust, why) in [
        ("an authority that nobody knows", port, None, "UnknownIssuer"),
        ("another authority", port, Some(theirs.as_path()), "UnknownIssuer"),
        (
            "no file of certificates",
            port,
            Some(nothing.as_path()),
            "UnknownIssuer",
        ),
        (
            "a certificate for another host",
            named,
            Some(ours.as_path()),
            "not valid for name",
        ),
        ("a certificate of yesterday", late, Some(ours.as_path()), "Expired"),
    ] {
        let ran = import(port, trust).ended(1);
        assert!(
            ran.err.contains("certificate is refused: ")
                && ran.err.contains(why)
                && ran.err.contains("SSL_CERT_FILE=FILE"),
            "{what}: {}",
            ran.err
        );
        let left = fs::read_dir(session.path("state/distros")).map_or(0, |folder| {
            let names = folder.map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_string_lossy() != ".lock").count()
        });
        assert_eq!(left, 0, "{what}");
    }
    let ran = import(port, Some(&ours)).succeeded();
    assert!(
        ran.out.contains("its SHA-256 sum is one of the publisher's"),
        "{}",
        ran.out
    );
    assert!(fs::read(session.path("state/distros/far/medium.iso")).unwrap() == bytes);
}
