//! Who gets past the listener: a look at a few bytes, before anything is parsed, against rates per machine, per port and for all strangers.
//!
//! Pure and bounded: what 2^32 invented addresses can fill is three tables of fixed size. Machines on record are judged by their own
//! rate alone, so no storm of strangers keeps one of them out.

use super::packet::{MessageType, code};
use crate::model::{Mac, Timestamp};
use std::collections::BTreeMap;

/// One machine: three boot stages' worth of DISCOVER and REQUEST, with repeats, at once; then 4 a second.
const MACHINE: Rate = Rate::of(4, 16);
/// The strangers behind one port of an access switch (giaddr with option 82.1): a chassis of machines that starts at once.
const PORT: Rate = Rate::of(100, 1_000);
/// The DISCOVERs of all strangers: more than the rest of the server answers, so that it costs nobody anything while there is no flood.
const DISCOVERS: Rate = Rate::of(24_000, 24_000);
/// What else all strangers say. By itself, so that a flood of DISCOVERs keeps no stranger from the REQUEST that it may send.
const OTHERS: Rate = Rate::of(24_000, 24_000);
/// Machines, and ports, that are told apart. The one not heard of longest is forgotten, which gives it a new burst and no more.
const TOLD_APART: usize = 65_536;

/// So many a second for ever, and so many at once.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Microseconds of one packet.
    cost: i64,
    /// Microseconds of all that may come at once.
    burst: i64,
}

impl Rate {
    const fn of(per_second: u32, burst: u32) -> Self {
        #[expect(clippy::as_conversions, reason = "u32 to i64 is lossless and `from` is not const")]
        let (per_second, burst) = (per_second as i64, burst as i64);
        let cost = match 1_000_000_i64.checked_div(per_second) {
            Some(cost) => cost,
            None => i64::MAX,
        };
        Self {
            cost,
            burst: burst.saturating_mul(cost),
        }
    }
}

/// A token bucket, as the microsecond at which it is full again.
#[derive(Debug, Clone, Copy)]
struct Bucket(i64);

impl Bucket {
    fn lets_pass(&mut self, rate: Rate, now: Timestamp) -> bool {
        let now = now.0.saturating_mul(1_000);
        // A clock that was set back must not lock anybody out.
        let set_back = self.0 > now.saturating_add(rate.burst);
        let full = if set_back { now } else { self.0.max(now) };
        let after = full.saturating_add(rate.cost);
        let passes = after.saturating_sub(now) <= rate.burst;
        self.0 = if passes { after } else { full };
        passes
    }
}

/// Buckets by key, at most [`TOLD_APART`]: two generations, of which the older is dropped when the younger is half of it.
#[derive(Debug)]
struct Buckets<K> {
    young: BTreeMap<K, Bucket>,
    old: BTreeMap<K, Bucket>,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self {
            young: BTreeMap::new(),
            old: BTreeMap::new(),
        }
    }
}

impl<K: Ord> Buckets<K> {
    fn lets_pass(&mut self, key: K, rate: Rate, now: Timestamp) -> bool {
        if let Some(bucket) = self.young.get_mut(&key) {
            return bucket.lets_pass(rate, now);
        }
        if self.young.len() >= TOLD_APART / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        let mut bucket = self.old.remove(&key).unwrap_or(Bucket(i64::MIN));
        let passes = bucket.lets_pass(rate, now);
        self.young.insert(key, bucket);
        passes
    }
}

/// What a few bytes say of a packet: enough to judge it, and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Glance {
    /// The hardware address.
    pub(super) mac: Option<Mac>,
    discover: bool,
    /// The port of the access switch, as the relay names it: a hash of giaddr and option 82.1.
    port: Option<u64>,
}

impl Glance {
    /// Looks at `bytes`. None: the wall will refuse it, or it is a server's.
    pub(super) fn at(bytes: &[u8]) -> Option<Self> {
        let (fixed, options) = bytes.split_first_chunk::<240>()?;
        let [1, _, hlen, ..] = *fixed else { return None };
        let (_, chaddr) = fixed.split_first_chunk::<28>()?;
        let (mac, _) = chaddr.split_first_chunk::<6>()?;
        let mac = Some(Mac::new(*mac)).filter(|mac| hlen == 6 && !mac.is_unusable());
        let giaddr = fixed.get(24..28).filter(|giaddr| giaddr.iter().any(|byte| *byte != 0));
        let discover = option(options, code::MESSAGE_TYPE) == Some(&[MessageType::Discover.number()]);
        let circuit = || option(option(options, code::RELAY_AGENT)?, 1);
        let port = giaddr.and_then(|giaddr| Some(hash(&[giaddr, circuit()?])));
        Some(Self { mac, discover, port })
    }
}

/// The first option `wanted` of an area.
fn option(mut area: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        area = match area {
            [0, rest @ ..] => rest,
            [255, ..] => return None,
            [code, length, rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                if *code == wanted {
                    return Some(value);
                }
                rest
            }
            _ => return None,
        }
    }
}

/// FNV-1a.
fn hash(parts: &[&[u8]]) -> u64 {
    parts
        .iter()
        .copied()
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is read.
    Passes,
    /// Its machine says too much: gone mad, or a liar.
    AboveRate,
    /// Too many strangers behind one port.
    AbovePortRate,
    /// Too many strangers.
    StrangersAboveRate,
}

/// All the rates.
#[derive(Debug)]
pub(super) struct Gate {
    known: Buckets<Mac>,
    strangers: Buckets<Mac>,
    ports: Buckets<u64>,
    discovers: Bucket,
    others: Bucket,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            known: Buckets::default(),
            strangers: Buckets::default(),
            ports: Buckets::default(),
            discovers: Bucket(i64::MIN),
            others: Bucket(i64::MIN),
        }
    }
}

impl Gate {
    /// Judges a packet at `now`; `known` says that its machine is on record.
    pub(super) fn judge(&mut self, glance: &Glance, known: bool, now: Timestamp) -> Judged {
        if known && let Some(mac) = glance.mac {
            return if self.known.lets_pass(mac, MACHINE, now) {
                Judged::Passes
            } else {
                Judged::AboveRate
            };
        }
        // The narrow rates first: what one machine or one port has too much of costs the other strangers nothing.
        if glance
            .mac
            .is_some_and(|mac| !self.strangers.lets_pass(mac, MACHINE, now))
        {
            return Judged::AboveRate;
        }
        if glance.port.is_some_and(|port| !self.ports.lets_pass(port, PORT, now)) {
            return Judged::AbovePortRate;
        }
        let (all, rate) = if glance.discover {
            (&mut self.discovers, DISCOVERS)
        } else {
            (&mut self.others, OTHERS)
        };
        if all.lets_pass(rate, now) {
            Judged::Passes
        } else {
            Judged::StrangersAboveRate
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discover(mac: Mac, giaddr: [u8; 4], more: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 236];
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes[24..28].copy_from_slice(&giaddr);
        bytes[28..34].copy_from_slice(&mac.bytes());
        bytes.extend([99, 130, 83, 99, 53, 1, 1]);
        bytes.extend(more);
        bytes.push(255);
        bytes
    }

    fn mac(n: u32) -> Mac {
        let [a, b, c, d] = n.to_be_bytes();
        Mac::new([2, 7, a, b, c, d])
    }

    fn direct(n: u32) -> Glance {
        Glance::at(&discover(mac(n), [0; 4], &[])).unwrap()
    }

    #[test]
    fn a_boot_passes_and_a_flood_does_not() {
        for known in [true, false] {
            let mut gate = Gate::default();
            assert!((0..16).all(|_| gate.judge(&direct(1), known, Timestamp(0)) == Judged::Passes));
            assert_eq!(gate.judge(&direct(1), known, Timestamp(0)), Judged::AboveRate);
            assert_eq!(gate.judge(&direct(2), known, Timestamp(0)), Judged::Passes);
            let passed = (0..10_000)
                .filter(|at| gate.judge(&direct(1), known, Timestamp(*at)) == Judged::Passes)
                .count();
            assert!((39..=41).contains(&passed), "{passed} in 10 s");
            assert_eq!(
                gate.judge(&direct(1), known, Timestamp(-86_400_000)),
                Judged::Passes,
                "a clock that goes back locks nobody out"
            );
        }
    }

    #[test]
    fn no_number_of_strangers_keeps_out_a_machine_on_record_or_fills_the_memory() {
        let mut gate = Gate::default();
        let mut refused = 0_u32;
        for n in 0..300_000_u32 {
            let now = Timestamp((n / 100).into());
            if gate.judge(&direct(n), false, now) == Judged::StrangersAboveRate {
                refused += 1;
            }
            if n.is_multiple_of(60_000) {
                assert_eq!(gate.judge(&direct(u32::MAX), true, now), Judged::Passes);
            }
        }
        // 3 s at 100,000 a second: 24,000 at once and 24,000 a second pass.
        assert!((200_000..=206_000).contains(&refused), "{refused}");
        assert!(gate.strangers.young.len() + gate.strangers.old.len() <= TOLD_APART);
        assert_eq!(gate.known.young.len(), 1);
        let mut request = direct(7_000_000);
        request.discover = false;
        assert_eq!(gate.judge(&request, false, Timestamp(3_000)), Judged::Passes);
    }

    #[test]
    fn a_port_of_a_relay_has_its_share_and_its_machines_on_record_are_not_in_it() {
        let mut gate = Gate::default();
        let behind = |n, circuit: u8| {
            let glance = Glance::at(&discover(mac(n), [10, 0, 0, 1], &[82, 7, 2, 1, 9, 1, 2, 0, circuit])).unwrap();
            assert!(glance.port.is_some() && glance.discover);
            glance
        };
        let passed = (0..5_000)
            .filter(|n| gate.judge(&behind(*n, 1), false, Timestamp(0)) == Judged::Passes)
            .count();
        assert_eq!(passed, 1_000);
        assert_eq!(
            gate.judge(&behind(9_000, 1), false, Timestamp(0)),
            Judged::AbovePortRate
        );
        assert_eq!(gate.judge(&behind(9_000, 1), true, Timestamp(0)), Judged::Passes);
        assert_eq!(gate.judge(&behind(9_001, 2), false, Timestamp(0)), Judged::Passes);
        assert_eq!(gate.judge(&direct(9_002), false, Timestamp(0)), Judged::Passes);
    }

    #[test]
    fn what_the_wall_refuses_is_none_and_no_bytes_make_it_stumble() {
        let whole = discover(mac(1), [10, 0, 0, 1], &[82, 200, 1]);
        for length in 0..whole.len() {
            assert_eq!(Glance::at(&whole[..length]).is_some(), length >= 240);
        }
        let mut reply = whole.clone();
        reply[0] = 2;
        assert_eq!(Glance::at(&reply), None);
        let mut long = whole;
        long[2] = 200;
        assert_eq!(Glance::at(&long).unwrap().mac, None);
    }
}
