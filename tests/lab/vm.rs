//! Machines: QEMU with real firmware, the network first in its boot order and its own disks after it.
//! It must never run more than two at a time, never outlive its test, and never be waited for by time alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::child::{Child, lock};
use super::netns::Net;
use super::wire::{self, Wire};

/// How long a machine may take from one mark on its console to the next. Emulation on a loaded host is slow: this is no measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(240);

const MOST_AT_A_TIME: u32 = 2;
static RUNNING: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());
static COUNT: AtomicU32 = AtomicU32::new(1);

/// What a machine boots with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS with iPXE in the card's ROM: option 77 says iPXE from the first packet on.
    BiosIpxeRom,
    /// SeaBIOS with a plain PXE ROM, which fetches `undionly.kpxe` ([`super::wire`] says how).
    BiosUndionly,
    /// UEFI with its own PXE; UEFI HTTP Boot is the next entry of its boot order.
    OvmfPxe,
    /// UEFI with HTTP Boot only.
    OvmfHttp,
    /// UEFI with iPXE in the card's ROM; its own PXE and HTTP Boot follow.
    OvmfIpxeRom,
}

impl Firmware {
    #[must_use]
    pub const fn is_uefi(self) -> bool {
        matches!(self, Self::OvmfPxe | Self::OvmfHttp | Self::OvmfIpxeRom)
    }
}

/// The network card. Debian's OVMF has no driver of its own for `E1000`: it needs [`Firmware::OvmfIpxeRom`] there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    Virtio,
    E1000,
}

/// A machine that is off: its disks and its UEFI variables live as long as this value.
pub struct Machine {
    name: String,
    firmware: Firmware,
    card: Card,
    mac: String,
    memory: u32,
    disks: Vec<PathBuf>,
    extra: Vec<String>,
    folder: tempfile::TempDir,
    starts: u32,
    tap: Option<(String, String)>,
}

/// A machine that runs. Dropping it cuts its power.
pub struct Vm {
    qemu: Child,
    serial: PathBuf,
    name: String,
    seen: usize,
    _place: Place,
}

impl Machine {
    /// A machine with an empty disk of 512 MiB, 512 MiB of memory, a virtio card and a MAC of its own.
    #[must_use]
    pub fn new(name: &str, firmware: Firmware) -> Self {
        let folder = tempfile::Builder::new()
            .prefix(&format!("vm-{}-", std::process::id()))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let [_, _, high, low] = number.to_be_bytes();
        let mut machine = Self {
            name: name.to_owned(),
            firmware,
            card: Card::Virtio,
            mac: format!("52:54:00:c0:{high:02x}:{low:02x}"),
            memory: 512,
            disks: Vec::new(),
            extra: Vec::new(),
            folder,
            starts: 0,
            tap: None,
        };
        machine.add_disk(512);
        machine
    }

    #[must_use]
    pub const fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    #[must_use]
    pub const fn card(mut self, card: Card) -> Self {
        self.card = card;
        self
    }

    #[must_use]
    pub fn mac(mut self, mac: &str) -> Self {
        mac.clone_into(&mut self.mac);
        self
    }

    /// One more empty disk.
    #[must_use]
    pub fn disk(mut self, mebibytes: u64) -> Self {
        self.add_disk(mebibytes);
        self
    }

    /// Arguments for QEMU beyond the usual ones.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.extra.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    #[must_use]
    pub fn mac_address(&self) -> &str {
        &self.mac
    }

    /// The raw images of its disks, in their order; look at them while the machine is off.
    #[must_use]
    pub fn disks(&self) -> &[PathBuf] {
        &self.disks
    }

    fn add_disk(&mut self, mebibytes: u64) {
        let path = self.folder.path().join(format!("disk{}.img", self.disks.len()));
        fs::File::create(&path).unwrap().set_len(mebibytes << 20).unwrap();
        self.disks.push(path);
    }

    /// Powers it on. Waits for its place among the machines that may run at a time: whoever needs two at once starts them one after
    /// the other and must hold no third.
    pub fn power_on(&mut self, net: &Net) -> Vm {
        let place = Place::take();
        self.starts += 1;
        let serial = self.folder.path().join(format!("serial{}.log", self.starts));
        fs::write(&serial, []).unwrap();
        if self
            .tap
            .as_ref()
            .is_none_or(|(namespace, _)| namespace != net.namespace())
        {
            self.tap = Some((net.namespace().to_owned(), net.tap()));
        }
        let tap = self.tap.as_ref().unwrap().1.clone();
        let mut command = net.machine_command("qemu-system-x86_64");
        command.args([
            "-machine",
            "q35",
            "-nodefaults",
            "-no-user-config",
            "-nographic",
            "-device",
            "virtio-rng-pci",
        ]);
        if std::env::var("CORDWAINER_ACCEL").as_deref() == Ok("kvm") {
            command.args(["-accel", "kvm", "-cpu", "host"]);
        } else {
            command.args(["-accel", "tcg,thread=multi", "-cpu", "Nehalem"]);
        }
        command
            .arg("-name")
            .arg(&self.name)
            .arg("-m")
            .arg(self.memory.to_string());
        command.arg("-serial").arg(format!("file:{}", serial.display()));
        self.network_arguments(&tap, &mut command);
        for (index, path) in self.disks.iter().enumerate() {
            let drive = format!(
                "if=none,id=disk{index},format=raw,cache=unsafe,discard=unmap,file={}",
                path.display()
            );
            command.arg("-drive").arg(drive);
            command
                .arg("-device")
                .arg(format!("virtio-blk-pci,drive=disk{index},bootindex={}", index + 2));
        }
        if self.firmware.is_uefi() {
            self.uefi_arguments(&mut command);
        }
        command.args(&self.extra);
        Vm {
            qemu: Child::start(&self.name, &mut command),
            serial,
            name: self.name.clone(),
            seen: 0,
            _place: place,
        }
    }

    fn network_arguments(&self, tap: &str, command: &mut std::process::Command) {
        let model = match self.card {
            Card::Virtio => "virtio-net-pci",
            Card::E1000 => "e1000",
        };
        // An empty ROM file leaves the card to the firmware's own drivers.
        let rom = if matches!(self.firmware, Firmware::OvmfPxe | Firmware::OvmfHttp) {
            ",romfile="
        } else {
            ""
        };
        let plain_rom = (self.firmware == Firmware::BiosUndionly).then_some(Wire::PlainPxeRom);
        // A held wire carries Ethernet frames, without the header by which virtio hands over unfinished checksums.
        let header = if plain_rom.is_some() { ",vnet_hdr=off" } else { "" };
        command
            .arg("-netdev")
            .arg(format!("tap,id=net0,ifname={tap},script=no,downscript=no{header}"));
        command
            .arg("-device")
            .arg(format!("{model},netdev=net0,mac={},bootindex=1{rom}", self.mac));
        if let Some(Wire::PlainPxeRom) = plain_rom {
            wire::hold(self.folder.path());
            for (id, name) in [("wire-out", "out"), ("wire-in", "in")] {
                command.arg("-chardev").arg(format!(
                    "socket,id={id},path={}",
                    self.folder.path().join(name).display()
                ));
            }
            command.args([
                "-object",
                "filter-redirector,id=wire,netdev=net0,queue=rx,indev=wire-in,outdev=wire-out",
            ]);
        }
    }

    fn uefi_arguments(&self, command: &mut std::process::Command) {
        let variables = self.folder.path().join("variables.fd");
        if !variables.exists() {
            fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &variables).unwrap();
        }
        command.args([
            "-drive",
            "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
        ]);
        command
            .arg("-drive")
            .arg(format!("if=pflash,format=raw,unit=1,file={}", variables.display()));
        let mut off = vec!["IPv6PXESupport", "IPv6Support"];
        if self.firmware == Firmware::OvmfHttp {
            off.push("IPv4PXESupport");
        }
        for name in off {
            command
                .arg("-fw_cfg")
                .arg(format!("name=opt/org.tianocore/{name},string=n"));
        }
    }
}

impl Vm {
    /// All that its console showed since power on, without terminal control sequences.
    #[must_use]
    pub fn console(&self) -> String {
        plain_text(&fs::read(&self.serial).unwrap())
    }

    /// Waits until the console shows `text` after what the last call found, and returns the line that holds it so far.
    ///
    /// # Panics
    /// When [`PATIENCE`] ends or the machine goes off first.
    pub fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_within(text, PATIENCE)
    }

    /// As [`Vm::wait_for`], with a deadline of its own.
    pub fn wait_for_within(&mut self, text: &str, within: Duration) -> String {
        let deadline = Instant::now() + within;
        loop {
            let was_running = self.qemu.is_running();
            let console = self.console();
            let start = self.seen.min(console.len());
            if let Some(found) = console[start..].find(text) {
                let at = start + found;
                self.seen = at + text.len();
                let line_start = console[..at].rfind('\n').map_or(0, |newline| newline + 1);
                let line_end = console[at..].find('\n').map_or(console.len(), |newline| at + newline);
                return console[line_start..line_end].to_owned();
            }
            let why = if was_running { "took too long" } else { "went off" };
            assert!(
                was_running && Instant::now() < deadline,
                "{} {why} before its console showed {text:?}\n{}",
                self.name,
                self.last_lines()
            );
            // The console is a file: its growth is looked for until the deadline.
            thread::sleep(Duration::from_millis(25));
        }
    }

    /// Waits until the machine has switched itself off.
    ///
    /// # Panics
    /// When [`PATIENCE`] ends first.
    pub fn wait_for_power_off(mut self) {
        self.qemu.wait_for_exit(PATIENCE);
    }

    /// Pulls the plug: SIGKILL, nothing is flushed by the guest.
    pub fn power_cut(mut self) {
        self.qemu.kill();
    }

    #[must_use]
    pub fn is_on(&mut self) -> bool {
        self.qemu.is_running()
    }

    fn last_lines(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().filter(|line| !line.trim().is_empty()).collect();
        format!(
            "console of {}:\n  {}",
            self.name,
            lines[lines.len().saturating_sub(60)..].join("\n  ")
        )
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.last_lines());
        }
    }
}

/// One of the two places for a running machine.
pub struct Place;

impl Place {
    /// Waits for one. A test with a guest of libvirt takes one for all that it runs.
    #[must_use]
    pub fn take() -> Self {
        let mut running = lock(&RUNNING.0);
        while *running >= MOST_AT_A_TIME {
            running = RUNNING.1.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        *running += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *lock(&RUNNING.0) -= 1;
        RUNNING.1.notify_one();
    }
}

/// What a person would read: no escape sequences, no carriage returns.
fn plain_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            0x1b => {
                // ECMA-48: a control sequence ends with a byte from @ to ~.
                let is_sequence = rest.next() == Some(b'[');
                while is_sequence && rest.next().is_some_and(|byte| !(0x40..=0x7e).contains(&byte)) {}
            }
            b'\n' | b' '..=b'~' => text.push(char::from(byte)),
            b'\r' => text.push('\n'),
            _ => {}
        }
    }
    text
}

/// One sector of 512 bytes of a disk, for tests that look at it from outside while its machine is off.
#[must_use]
pub fn sector(disk: &Path, number: u64) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; 512];
    fs::File::open(disk)
        .unwrap()
        .read_exact_at(&mut bytes, number * 512)
        .unwrap();
    bytes
}

#[test]
fn control_sequences_are_taken_out() {
    assert_eq!(
        plain_text(b"\x1bc\x1b[?7l\x1b[2J\x1b[01;37Hhe\x1b[1mllo\r\nyou"),
        "hello\n\nyou"
    );
}
