//! A client of Cobbler's XML-RPC as scripts are: one call after the other, over a kept connection where the server keeps it.

use super::Arguments;
use cordwainer::xmlrpc::decode::{self, Limits};
use cordwainer::xmlrpc::{Value, encode, members};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

/// `--server ADDRESS:PORT --path /cobbler_api --user U --password P --what add|sync|profile|systems|ping --systems N --round N`: prints the
/// seconds from the start of each call to the last byte of its answer, all together; what the client does with an answer is not the
/// server's doing. `add` adds systems to the profile `bench`, in five calls each; `profile` changes that profile; `ping` asks until there is
/// an answer.
pub fn run(arguments: &Arguments) {
    let mut server = Client {
        address: arguments.get("server", "127.0.0.1:80"),
        path: arguments.get("path", "/cobbler_api"),
        kept: None,
        waited: Duration::ZERO,
    };
    let what: String = arguments.get("what", "ping");
    let begun = Instant::now();
    if what == "ping" {
        while server.try_call("ping", &[]).is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120), "nobody answers");
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("{:.4}", begun.elapsed().as_secs_f64());
        return;
    }
    let (user, password): (String, String) = (arguments.get("user", "admin"), arguments.get("password", ""));
    let token = server.call("login", &[user.into(), password.into()]);
    server.waited = Duration::ZERO;
    match what.as_str() {
        "distro" => {
            let tree: String = arguments.get("tree", "");
            let distro = server.call("new_distro", std::slice::from_ref(&token));
            for (field, value) in [
                ("name", "bench".to_owned()),
                ("kernel", format!("{tree}/vmlinuz")),
                ("initrd", format!("{tree}/initrd.img")),
                ("arch", "x86_64".to_owned()),
                ("breed", "redhat".to_owned()),
                ("os_version", "rhel9".to_owned()),
            ] {
                server.call(
                    "modify_distro",
                    &[distro.clone(), field.into(), value.into(), token.clone()],
                );
            }
            server.call("save_distro", &[distro, token.clone()]);
            let profile = server.call("new_profile", std::slice::from_ref(&token));
            let template: String = arguments.get("template", "");
            for (field, value) in [("name", "bench"), ("distro", "bench"), ("autoinstall", &template)] {
                server.call(
                    "modify_profile",
                    &[profile.clone(), field.into(), value.into(), token.clone()],
                );
            }
            server.call("save_profile", &[profile, token]);
        }
        "add" => {
            for number in 0..arguments.get("systems", "1000") {
                add(&mut server, &token, number);
            }
        }
        "sync" => drop(server.call("sync", &[token])),
        "profile" => {
            let round: String = arguments.get("round", "1");
            let handle = server.call("get_profile_handle", &["bench".into(), token.clone()]);
            let options = format!("quiet round={round}");
            server.call(
                "modify_profile",
                &[handle.clone(), "kernel_options".into(), options.into(), token.clone()],
            );
            server.call("save_profile", &[handle, token]);
        }
        "systems" => {
            let systems = server.call("get_systems", &["".into(), "".into(), token]);
            let Value::Array(systems) = systems else {
                panic!("no list")
            };
            assert_eq!(systems.len(), arguments.get::<usize>("systems", "1000"));
        }
        _ => panic!("--what distro|add|sync|profile|systems|ping"),
    }
    println!("{:.4}", server.waited.as_secs_f64());
}

fn add(server: &mut Client, token: &Value, number: u32) {
    let mac = super::inventory::mac(number).to_string();
    let handle = server.call("new_system", std::slice::from_ref(token));
    let interface = members([
        ("macaddress-eth0", mac.into()),
        (
            "ipaddress-eth0",
            Value::Text(format!("10.65.{}.{}", number / 250, number % 250 + 1)),
        ),
    ]);
    for (field, value) in [
        ("name", Value::Text(format!("s{number}"))),
        ("profile", "bench".into()),
        ("modify_interface", interface),
    ] {
        server.call("modify_system", &[handle.clone(), field.into(), value, token.clone()]);
    }
    server.call("save_system", &[handle, token.clone()]);
}

struct Client {
    address: SocketAddrV4,
    path: String,
    kept: Option<BufReader<TcpStream>>,
    /// For answers, the way to the server included.
    waited: Duration,
}

impl Client {
    fn call(&mut self, method: &str, arguments: &[Value]) -> Value {
        let answer = self.try_call(method, arguments);
        let answer = answer.unwrap_or_else(|| panic!("{} does not answer {method}", self.address));
        answer.unwrap_or_else(|fault| panic!("{method}: {fault}"))
    }

    /// None when there is no answer.
    fn try_call(&mut self, method: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let body = encode::call(method, arguments);
        let begun = Instant::now();
        let answer = self.exchange(&body);
        self.waited += begun.elapsed();
        Some(decode::answer(&answer?, Limits::ANSWER).unwrap_or_else(|error| panic!("{method}: {error}")))
    }

    /// Sends a call, and reads its answer to the last byte.
    fn exchange(&mut self, body: &str) -> Option<Vec<u8>> {
        let mut stream = match self.kept.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).ok()?;
                stream.set_nodelay(true).unwrap();
                BufReader::with_capacity(1 << 16, stream)
            }
        };
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: bench\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
            self.path,
            body.len()
        );
        stream.get_mut().write_all(request.as_bytes()).ok()?;
        let (mut length, mut keeps) = (None, true);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_lowercase();
            keeps &= !line.starts_with("http/1.0") && line != "connection: close";
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse::<usize>().ok();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length?];
        stream.read_exact(&mut answer).ok()?;
        if keeps {
            self.kept = Some(stream);
        }
        Some(answer)
    }
}
