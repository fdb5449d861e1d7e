//! Why a hypervisor does not answer, as a person reads it, with the remedy: libvirt passes on what ssh, its own socket or TLS said.
//!
//! Pure: who this process runs as is an argument.

/// Where a libvirt URI leads, as far as a remedy needs it.
struct Place<'a> {
    driver: &'a str,
    transport: Option<&'a str>,
    user: Option<&'a str>,
    host: Option<&'a str>,
    port: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// `DRIVER[+TRANSPORT]://[USER@][HOST[:PORT]]/PATH[?...]`.
    fn of(uri: &'a str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        let (driver, transport) = match scheme.split_once('+') {
            Some((driver, transport)) => (driver, Some(transport)),
            None => (scheme, None),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let (host, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (name, Some(port))
            }
            _ => (host, None),
        };
        Some(Self {
            driver,
            transport,
            user,
            host: Some(host).filter(|host| !host.is_empty()),
            port,
        })
    }

    /// Its host's name, or this one.
    fn name(&self) -> &str {
        self.host.unwrap_or("this host")
    }

    fn there(&self) -> String {
        match self.user {
            Some(user) => format!("{user}@{}", self.name()),
            None => self.name().to_owned(),
        }
    }

    /// What an admin types to get there as this process would.
    fn ssh(&self, account: &str) -> String {
        let port = self.port.map_or_else(String::new, |port| format!("-p {port} "));
        format!("{}ssh {port}{} true", as_account(account), self.there())
    }

    /// The name of its key in known_hosts.
    fn known_as(&self) -> String {
        match self.port.filter(|port| *port != "22") {
            Some(port) => format!("\"[{}]:{port}\"", self.name()),
            None => self.name().to_owned(),
        }
    }
}

fn as_account(account: &str) -> String {
    if account == "root" {
        String::new()
    } else {
        format!("sudo -u {account} ")
    }
}

/// libvirt's drivers that a guest may be made with, and the one for tests.
const DRIVERS: [&str; 6] = ["qemu", "xen", "test", "lxc", "ch", "bhyve"];

/// What is wrong with a URI before anybody is asked, with the remedy.
///
/// # Errors
/// A sentence.
pub fn uri(text: &str) -> Result<(), String> {
    let examples = "write it like qemu:///system, qemu+ssh://root@HOST/system or xen:///system";
    if text.is_empty() || text.len() > 1024 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let shown: String = text.escape_debug().take(80).collect();
        return Err(format!("`{shown}` is no URI of a hypervisor; {examples}"));
    }
    let Some(place) = Place::of(text) else {
        return Err(format!("`{text}` is no URI of a hypervisor; {examples}"));
    };
    if !DRIVERS.contains(&place.driver) {
        return Err(format!(
            "`{text}` names `{}`, and no guests are made with that; {examples}",
            place.driver
        ));
    }
    if place.driver == "qemu" {
        let path = text
            .split_once("://")
            .and_then(|(_, rest)| rest.split(['?', '#']).next()?.split_once('/'))
            .map(|(_, path)| path);
        if !matches!(path, Some("system" | "session" | "embed")) {
            return Err(format!("`{text}` does not end with /system or /session; {examples}"));
        }
    }
    let transports = ["ssh", "tls", "tcp", "unix", "ext", "libssh", "libssh2"];
    match place.transport {
        Some(transport) if !transports.contains(&transport) => Err(format!(
            "`{text}` names a way `{transport}` that libvirt does not have; {examples}"
        )),
        Some("ssh" | "tls" | "tcp" | "libssh" | "libssh2") if place.host.is_none() => {
            Err(format!("`{text}` names no host; {examples}"))
        }
        _ => Ok(()),
    }
}

/// What libvirt said when `uri` did not answer, without its frame, and the remedy where one is known. `account` is who this process is.
#[must_use]
pub fn explained(uri: &str, said: &str, account: &str) -> String {
    let Some(place) = Place::of(uri) else {
        return said.to_owned();
    };
    let mut what = said;
    for frame in [
        "Cannot recv data: ",
        "End of file while reading data: ",
        "Cannot write data: ",
    ] {
        what = what.strip_prefix(frame).unwrap_or(what);
    }
    for frame in [": Connection reset by peer", ": Input/output error", ": Broken pipe"] {
        what = what.strip_suffix(frame).unwrap_or(what);
    }
    let what = what.trim().trim_end_matches('.');
    let (what, remedy) = match place.transport {
        Some("ssh") => ssh(&place, what, account),
        _ => (what.to_owned(), None),
    };
    match remedy
        .or_else(|| tls(&place, &what))
        .or_else(|| socket(&place, &what, account))
    {
        Some(remedy) => format!("{what}; {remedy}"),
        None => what,
    }
}

fn ssh(place: &Place<'_>, what: &str, account: &str) -> (String, Option<String>) {
    let ssh = place.ssh(account);
    let sudo = as_account(account);
    let has = |text: &str| what.contains(text);
    if has("IDENTIFICATION HAS CHANGED") || has("has changed and you have requested strict checking") {
        return (
            "its ssh host key is another than the one that is known here".to_owned(),
            Some(format!(
                "it was installed anew, or somebody stands in between; if you know that it was: {sudo}ssh-keygen -R {}, then {ssh}",
                place.known_as()
            )),
        );
    }
    if has("Host key verification failed") {
        return (
            format!("its ssh host key is not known to {account} here"),
            Some(format!("compare it and say yes once: {ssh}")),
        );
    }
    let remedy = if has("Permission denied (") || has("Too many authentication failures") {
        Some(format!(
            "no key of {account} here opens that account (a passphrase is never asked for): make one with {sudo}ssh-keygen -t ed25519 -N '', \
             append its .pub to ~/.ssh/authorized_keys of {}, try: {ssh}",
            place.there()
        ))
    } else if has("Could not resolve hostname") {
        Some("look at the name in the URI; it stands between // and the next /".to_owned())
    } else if has("ssh: connect to host") || has("Connection timed out") || has("No route to host") {
        Some(format!("its sshd is not reached; try: {ssh}"))
    } else if has("cannot execute binary") {
        Some("ssh is missing here: apt install openssh-client".to_owned())
    } else if has("nc: not found") || has("nc: command not found") || has("virt-ssh-helper: not found") {
        Some(format!(
            "libvirt is missing on {0}: apt install libvirt-daemon-system there",
            place.name()
        ))
    } else {
        None
    };
    (what.to_owned(), remedy)
}

fn tls(place: &Place<'_>, what: &str) -> Option<String> {
    if place.transport != Some("tls") {
        return None;
    }
    let host = place.name();
    let has = |text: &str| what.contains(text);
    if has("Cannot read CA certificate") || has("Cannot read certificate") || has("Cannot read private key") {
        return Some(
            "libvirt's clients take cacert.pem from /etc/pki/CA, clientcert.pem from /etc/pki/libvirt and clientkey.pem from its folder private; \
             or name one folder that has all three: ?pkipath=FOLDER at the end of the URI"
                .to_owned(),
        );
    }
    if has("unable to connect to server at") {
        return Some(format!(
            "libvirt on {host} listens for TLS only where it is told to: systemctl stop libvirtd, then systemctl enable --now libvirtd-tls.socket there"
        ));
    }
    if has("owner does not match the hostname") || has("does not match the hostname") {
        return Some(format!(
            "its certificate is not for {host}: name it in the URI as the certificate does, or issue one with that name (subjectAltName)"
        ));
    }
    if has("certificate") || has("TLS handshake") || has("authentication failed") || has("error in the pull function") {
        return Some(format!(
            "both certificates must be valid now and issued by the CA that the other side knows; {host} says more: journalctl -u libvirtd"
        ));
    }
    // A server that does not take our certificate ends the connection, and says why in its own log.
    has("reading data").then(|| {
        format!(
            "it may not take this client's certificate, which must be of the CA that it knows: journalctl -u libvirtd on {host}"
        )
    })
}

fn socket(place: &Place<'_>, what: &str, account: &str) -> Option<String> {
    let has = |text: &str| what.contains(text);
    let at = match place.host {
        Some(host) => format!(" on {host}"),
        None => String::new(),
    };
    let is_socket = has("libvirt-sock") || has("Failed to connect socket");
    if is_socket && (has("No such file or directory") || has("Connection refused")) {
        return Some(format!(
            "libvirt does not run{at}: systemctl start libvirtd there; where that is not known: apt install libvirt-daemon-system"
        ));
    }
    let barred = is_socket && has("Permission denied");
    if barred || has("polkit") || has("authentication unavailable") || has("access denied") {
        let who = match place.host {
            Some(_) => place.user.unwrap_or("the account of the URI"),
            None => account,
        };
        return Some(format!(
            "{who} is not in the group libvirt{at}: usermod -aG libvirt {}, then {}",
            if who.contains(' ') { "NAME" } else { who },
            if place.host.is_some() {
                "try again"
            } else {
                "log in anew (of a service: restart it)"
            }
        ));
    }
    if place.transport == Some("tcp") && has("unable to connect to server at") {
        return Some(format!(
            "libvirt{at} listens on TCP only where it is told to, and whoever listens on the way reads all; use qemu+ssh://root@{}/system",
            place.name()
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_fail_names_its_remedy() {
        let ssh = "qemu+ssh://root@hv1/system";
        let cases = [
            (
                ssh,
                "Cannot recv data: Host key verification failed.: Connection reset by peer",
                "its ssh host key is not known to cordwainer here; compare it and say yes once: sudo -u cordwainer ssh root@hv1 true",
            ),
            (
                "qemu+ssh://hv1:2222/system",
                "Cannot recv data: @@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@ Host key verification failed.: Connection reset by peer",
                "ssh-keygen -R \"[hv1]:2222\", then sudo -u cordwainer ssh -p 2222 hv1 true",
            ),
            (
                ssh,
                "Cannot recv data: root@hv1: Permission denied (publickey,password).: Connection reset by peer",
                "root@hv1: Permission denied (publickey,password); no key of cordwainer here opens that account",
            ),
            (
                ssh,
                "Cannot recv data: ssh: Could not resolve hostname hv1: Name or service not known: Connection reset by peer",
                "look at the name in the URI",
            ),
            (
                ssh,
                "End of file while reading data: virt-ssh-helper: cannot connect to '/var/run/libvirt/libvirt-sock': Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory: Input/output error",
                "libvirt does not run on hv1: systemctl start libvirtd there",
            ),
            (
                "qemu:///system",
                "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
                "libvirt does not run: systemctl start libvirtd",
            ),
            (
                "qemu:///system",
                "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
                "cordwainer is not in the group libvirt: usermod -aG libvirt cordwainer",
            ),
            (
                "qemu+tls://hv1/system",
                "Cannot read CA certificate '/etc/pki/CA/cacert.pem': No such file or directory",
                "?pkipath=FOLDER",
            ),
            (
                "qemu+tcp://hv1/system",
                "unable to connect to server at 'hv1:16509': Connection refused",
                "use qemu+ssh://root@hv1/system",
            ),
        ];
        for (uri, said, wanted) in cases {
            let text = explained(uri, said, "cordwainer");
            assert!(text.contains(wanted), "{said}\n{text}");
        }
        assert!(
            explained(ssh, "Host key verification failed.", "root").ends_with("say yes once: ssh root@hv1 true"),
            "root needs no sudo"
        );
        assert_eq!(explained("qemu:///system", "something new", "root"), "something new");
    }

    #[test]
    fn a_uri_that_leads_nowhere_is_said_so_before_anybody_is_asked() {
        for good in [
            "qemu:///system",
            "qemu:///session",
            "qemu+ssh://root@hv1/system?no_tty=1",
            "qemu+tls://hv1/system?pkipath=/etc/x",
            "qemu:///system?socket=/run/x",
            "test:///default",
            "xen:///system",
            "xen+ssh://root@hv1/system",
        ] {
            assert_eq!(uri(good), Ok(()), "{good}");
        }
        for (bad, says) in [
            ("", "is no URI"),
            ("hv1", "is no URI"),
            ("qemu:/system", "is no URI"),
            ("qemu:///system\n", "is no URI"),
            ("qemo:///system", "`qemo`"),
            ("qemu:///systm", "/system or /session"),
            ("qemu+ssh://root@hv1", "/system or /session"),
            ("qemu+sssh://hv1/system", "`sssh`"),
            ("qemu+ssh:///system", "names no host"),
        ] {
            let said = uri(bad).unwrap_err();
            assert!(
                said.contains(says) && said.contains("qemu+ssh://root@HOST"),
                "{bad}: {said}"
            );
        }
    }
}
