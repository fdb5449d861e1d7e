//! The wire of one machine, held by the test: QEMU hands each frame that the guest sends to this process and takes it back.
//! It must pass on every frame, in order; what it may change is named by [`Wire`].
//!
//! QEMU side: `-object filter-redirector,queue=rx` with two sockets, each frame behind a 32-bit big-endian length.
//! QEMU's own network ROM is iPXE and says so (options 77 and 175), so a server never takes it for a plain PXE ROM. With these two options
//! blanked until the machine has fetched its boot file by TFTP, the ROM is one: it loads `undionly.kpxe` and that takes over through UNDI.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

/// What happens to the frames that the guest sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// The network ROM appears as a plain PXE ROM.
    PlainPxeRom,
}

/// Where the machine is in its boot, as seen on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Rom,
    Loader,
}

/// Binds the two sockets `out` and `in` in `folder`, and passes frames until QEMU goes.
pub fn hold(folder: &Path) {
    let bind = |name: &str| {
        let path = folder.join(name);
        let _none = std::fs::remove_file(&path);
        UnixListener::bind(path).unwrap()
    };
    let (out, back) = (bind("out"), bind("in"));
    thread::spawn(move || {
        let (Ok((out, _)), Ok((back, _))) = (out.accept(), back.accept()) else {
            return;
        };
        // The end of the stream is the end of QEMU.
        let _ended = pass(out, back);
    });
}

fn pass(mut out: UnixStream, mut back: UnixStream) -> std::io::Result<()> {
    let mut phase = Phase::Rom;
    let mut length = [0; 4];
    loop {
        out.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length).try_into().unwrap()];
        out.read_exact(&mut frame)?;
        phase = plain_rom(phase, &mut frame);
        back.write_all(&[&length[..], &frame].concat())?;
    }
}

/// Blanks the options by which iPXE shows itself, while the ROM is what speaks.
fn plain_rom(phase: Phase, frame: &mut [u8]) -> Phase {
    let is_udp = frame.len() > 42 && frame[12..14] == [8, 0] && frame[23] == 17;
    if !is_udp {
        return phase;
    }
    let udp = 14 + usize::from(frame[14] & 15) * 4;
    let Some(&[high, low]) = frame.get(udp + 2..udp + 4) else {
        return phase;
    };
    match u16::from_be_bytes([high, low]) {
        69 => Phase::Loader,
        67 => {
            let options = options(frame, udp + 8 + 240);
            let class = options
                .iter()
                .find(|option| option.0 == 60)
                .map(|option| frame[option.1 + 2..option.1 + option.2].to_vec());
            if !class.is_some_and(|class| class.starts_with(b"PXEClient")) {
                // An installer or a system asks: what boots next is the ROM again.
                return Phase::Rom;
            }
            if phase == Phase::Rom {
                for (_, start, length) in options.into_iter().filter(|option| matches!(option.0, 77 | 175)) {
                    frame[start..start + length].fill(0);
                }
                // Zero says: no checksum (RFC 768).
                frame[udp + 6..udp + 8].fill(0);
            }
            phase
        }
        _ => phase,
    }
}

/// Code, offset and whole length of each DHCP option from `at` on.
fn options(frame: &[u8], mut at: usize) -> Vec<(u8, usize, usize)> {
    let mut found = Vec::new();
    while let Some(&code) = frame.get(at) {
        let length = match (code, frame.get(at + 1)) {
            (255, _) | (_, None) => break,
            (0, _) => 1,
            (_, Some(&length)) => usize::from(length) + 2,
        };
        if at + length > frame.len() {
            break;
        }
        if code != 0 {
            found.push((code, at, length));
        }
        at += length;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dhcp(options: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 8 + 240];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[23] = 17;
        frame[14 + 20 + 3] = 67;
        frame[14 + 20 + 6..14 + 20 + 8].copy_from_slice(&[1, 2]);
        frame.extend_from_slice(options);
        frame
    }

    #[test]
    fn the_rom_is_plain_until_it_fetches_a_file() {
        let sent = [
            &[53, 1, 1, 60, 9][..],
            b"PXEClient",
            &[77, 4],
            b"iPXE",
            &[175, 1, 9, 255],
        ]
        .concat();
        let mut frame = dhcp(&sent);
        assert_eq!(plain_rom(Phase::Rom, &mut frame), Phase::Rom);
        let blank = [&[53, 1, 1, 60, 9][..], b"PXEClient", &[0; 9], &[255]].concat();
        assert_eq!(frame[282..], blank);
        assert_eq!(frame[40..42], [0, 0]);
        let mut request = dhcp(&[]);
        request[37] = 69;
        assert_eq!(plain_rom(Phase::Rom, &mut request), Phase::Loader);
        let mut frame = dhcp(&sent);
        assert_eq!(plain_rom(Phase::Loader, &mut frame), Phase::Loader);
        assert_eq!(frame, dhcp(&sent));
        let mut system = dhcp(&[53, 1, 1, 60, 5, b'u', b'd', b'h', b'c', b'p', 255]);
        assert_eq!(plain_rom(Phase::Loader, &mut system), Phase::Rom);
    }

    #[test]
    fn other_and_cut_frames_pass_unchanged() {
        for length in [0, 20, 42, 43, 100, 281] {
            let mut frame = vec![0xff; length];
            let before = frame.clone();
            assert_eq!(plain_rom(Phase::Rom, &mut frame), Phase::Rom);
            assert_eq!(frame, before);
        }
        let mut cut = dhcp(&[60, 200, 1]);
        assert_eq!(plain_rom(Phase::Loader, &mut cut), Phase::Rom);
    }
}
