//! The ISO reader: images of xorriso in every dress, judged by what other readers unpack from them; files above 4 GiB; damaged images.

mod changed;
mod damage;
mod importing;
mod large;
pub mod medium;
mod odd_names;
mod reading;
mod serving;

use crate::cli::Session;
use crate::lab::child::Child;
use std::time::Duration;

/// The smallest folder that imports as Lab Linux.
fn lab_tree(session: &Session) {
    session.write(
        "lab/lab/release",
        "[release]\nname = Lab Linux\nversion = 1\narch = x86_64\n",
    );
    session.write("lab/boot/vmlinuz", "kernel");
    session.write("lab/boot/initrd.img", "initrd!");
}

/// A daemon over what `session` imported, with its ports of HTTP and TFTP.
fn serve(session: &Session) -> (Child, u16, u16) {
    session.write(
        "session.toml",
        "[server]\nallow = [\"127.0.0.0/8\"]\n[dhcp]\nmode = \"off\"\n[[subnet]]\nnetwork = \"127.0.0.0/8\"\nbinding = \"token-only\"\n\
         [http]\nport = 0\n[tftp]\nport = 0\n",
    );
    let mut daemon = Child::start("cordwainer", &mut session.command(&["serve"]));
    let serving = daemon.wait_for_line("serving: ", Duration::from_secs(60));
    let port = |mark: &str| {
        let digits = serving.split(mark).nth(1).unwrap();
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    };
    let (http, tftp) = (port("http port "), port("tftp port "));
    (daemon, http, tftp)
}
