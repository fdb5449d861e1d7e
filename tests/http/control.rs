//! The control socket: the daemon's side and the command line's, over a real socket, with a real sink behind it.

use super::{Lab, MAC};
use cordwainer::event::control::{Answer, Client, ClientError, Control};
use cordwainer::event::metrics::Metrics;
use cordwainer::event::sink::Sink;
use cordwainer::event::timeline::timeline;
use cordwainer::event::{Event, What};
use cordwainer::model::{Mac, Timestamp};
use cordwainer::ports::Events;
use cordwainer::store::clock::wall;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

struct Daemon {
    lab: Lab,
    sink: Arc<Sink>,
    socket: PathBuf,
    live: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    running: Option<std::thread::JoinHandle<()>>,
}

fn sink(lab: &Lab) -> Arc<Sink> {
    let database = lab.dir.path().join("events.db");
    Sink::open(Some(database), Arc::new(Metrics::new()), Box::new(wall))
}

impl Daemon {
    fn start() -> Self {
        let lab = Lab::start();
        let socket = lab.dir.path().join("cordwainer.sock");
        let sink = sink(&lab);
        let (live, served) = watch::channel(3);
        let (stop, asked) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let control = {
            let _entered = runtime.enter();
            Control::bind(&socket, sink.clone(), lab.record.clone(), served).unwrap()
        };
        let running = std::thread::spawn(move || runtime.block_on(control.run(asked)));
        Self {
            lab,
            sink,
            socket,
            live,
            stop,
            running: Some(running),
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap()
    }

    fn emit(&self, at: i64, what: What) {
        self.sink.emit(Event {
            at: Timestamp(at),
            mac: Some(MAC),
            system: Some("web1".parse().unwrap()),
            peer: None,
            what,
        });
    }

    fn stop(&mut self) {
        self.stop.send(true).unwrap();
        if let Some(running) = self.running.take() {
            running.join().unwrap();
        }
    }
}

fn discover() -> What {
    What::DhcpReceived {
        message: "DISCOVER".into(),
        firmware: Some("BIOS".into()),
        client: Some("PXEClient".into()),
    }
}

fn offer() -> What {
    What::DhcpAnswered {
        message: "OFFER".into(),
        address: Some("192.0.2.7".parse().unwrap()),
        file: Some("undionly.kpxe".into()),
        rule: "firmware bios".into(),
        durable_us: None,
    }
}

#[test]
fn a_trace_tells_the_last_boot_and_follows_the_machine() {
    let daemon = Daemon::start();
    daemon.emit(1000, discover());
    daemon.emit(1001, What::Installed);
    daemon.emit(900_000, discover());
    daemon.emit(900_001, offer());
    for name in ["web1", &MAC.to_string(), "52-54-00-7C-1D-4F"] {
        let answers: Vec<Answer> = daemon
            .client()
            .trace(name, false)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let [Answer::Machine(machine), Answer::Event(first), Answer::Event(second)] = answers.as_slice() else {
            panic!("{answers:#?}");
        };
        let events = [(**first).clone(), (**second).clone()];
        let told = timeline(&events, machine, Timestamp(990_000)).to_string();
        assert!(
            told.starts_with("web1  52:54:00:7c:1d:4f  BIOS  profile lab  claimed  1970-01-01 UTC\n"),
            "{told}"
        );
        assert!(
            told.contains("  stopped: no REQUEST for our offer in 89 s (1 DISCOVER answered).\n"),
            "{told}"
        );
    }

    let mut following = daemon.client().trace("web1", true).unwrap();
    let past = following
        .by_ref()
        .map(Result::unwrap)
        .take_while(|answer| *answer != Answer::Past)
        .count();
    assert_eq!(past, 3);
    daemon.sink.emit(Event {
        at: Timestamp(900_002),
        mac: Some(Mac::new([2, 0, 0, 0, 0, 1])),
        system: Some("other".parse().unwrap()),
        peer: None,
        what: What::Disarmed,
    });
    daemon.emit(900_003, What::BootedFromDisk);
    let Answer::Event(event) = following.next().unwrap().unwrap() else {
        panic!()
    };
    assert_eq!((event.at, event.what), (Timestamp(900_003), What::BootedFromDisk));
}

#[test]
fn a_boot_of_before_the_restart_comes_from_the_disk() {
    let mut daemon = Daemon::start();
    // Stories older than half a year are dropped, so this one happens now.
    let now = wall().0;
    daemon.emit(now, discover());
    daemon.emit(now + 1, What::Installed);
    daemon.sink.close();
    daemon.stop();
    let sink = sink(&daemon.lab);
    assert!(sink.events_of(None, Some(MAC)).is_empty());
    let (stop, asked) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let control = {
        let _entered = runtime.enter();
        Control::bind(&daemon.socket, sink, daemon.lab.record.clone(), watch::channel(1).1).unwrap()
    };
    let running = std::thread::spawn(move || runtime.block_on(control.run(asked)));
    assert_eq!(daemon.client().trace("web1", false).unwrap().count(), 3);
    stop.send(true).unwrap();
    running.join().unwrap();
}

#[test]
fn questions_that_cannot_be_answered_say_what_and_why() {
    let mut daemon = Daemon::start();
    let refused = daemon
        .client()
        .trace("nobody", false)
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err();
    assert!(
        refused.to_string().starts_with("there is no system `nobody`"),
        "{refused}"
    );
    for line in ["{\"nonsense\":1}\n".to_owned(), "x".repeat(100_000), "\n".to_owned()] {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The daemon may hang up before it has read all of it.
        let _ = stream.write_all(line.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("{\"error\":") || line.len() > 4096, "{answer}");
    }
    let second = {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        Control::bind(
            &daemon.socket,
            daemon.sink.clone(),
            daemon.lab.record.clone(),
            watch::channel(1).1,
        )
    };
    assert_eq!(second.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(daemon.socket.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    daemon.stop();
    assert!(!daemon.socket.exists());
    let gone = Client::connect(&daemon.socket).unwrap_err();
    assert!(matches!(gone, ClientError::NotRunning { .. }), "{gone}");
}

#[test]
fn the_command_line_learns_when_its_change_is_served() {
    let daemon = Daemon::start();
    let client = daemon.client();
    assert!(client.live(3, Duration::ZERO).unwrap());
    assert!(!client.live(4, Duration::ZERO).unwrap());
    let waiting = {
        let client = client.clone();
        std::thread::spawn(move || client.live(4, Duration::from_secs(20)).unwrap())
    };
    daemon.live.send(4).unwrap();
    assert!(waiting.join().unwrap());
}

#[test]
fn the_status_shows_where_armed_machines_are_stuck() {
    let daemon = Daemon::start();
    assert!(daemon.client().status().unwrap().is_empty());
    // The lab's clock stands at 1,000,000.
    daemon.emit(900_000, discover());
    daemon.emit(900_001, offer());
    let seen = daemon.client().status().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].system.as_str(), seen[0].stopped, seen[0].boots),
        ("web1", true, 1)
    );
    assert_eq!(seen[0].step, "no REQUEST for our offer in 99 s (1 DISCOVER answered)");
}
