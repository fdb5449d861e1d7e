//! Who guesses tokens: an address that shows so many wrong ones in a minute is not answered on them for a while.
//!
//! Pure, and bounded. A token that was once ours is no guess, however stale: an installer that reports late, or asks again after it was
//! disarmed, must never lock its machine out of the next installation.

use crate::model::Timestamp;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Wrong tokens in a [`WINDOW`] that are still answered.
pub const MOST: u32 = 20;
/// The time in which they are counted.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How long a guesser is not answered.
pub const SHUT_OUT: Duration = Duration::from_secs(600);
/// Addresses that are told apart. Past it all are forgotten: 160 bits are not guessed by starting anew.
const ADDRESSES: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Guesser {
    since: Timestamp,
    wrong: u32,
    out_until: Option<Timestamp>,
}

/// What becomes of a wrong token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It gets the 404 of every cause.
    Answered,
    /// It gets it too, and it is the last that does for a while.
    Last,
    /// Nothing.
    ShutOut,
}

/// All who guessed lately.
#[derive(Debug, Default)]
pub struct Guesses(BTreeMap<Ipv4Addr, Guesser>);

impl Guesses {
    /// Judges a wrong token from `peer`.
    pub fn wrong(&mut self, peer: Ipv4Addr, now: Timestamp) -> Verdict {
        if self.0.len() >= ADDRESSES && !self.0.contains_key(&peer) {
            self.0.retain(|_, seen| seen.out_until.is_some_and(|until| until > now));
            if self.0.len() >= ADDRESSES {
                self.0.clear();
            }
        }
        let fresh = Guesser {
            since: now,
            wrong: 0,
            out_until: None,
        };
        let seen = self.0.entry(peer).or_insert(fresh);
        match seen.out_until {
            Some(until) if until > now => return Verdict::ShutOut,
            Some(_) => *seen = fresh,
            None if now.since(seen.since) >= WINDOW => *seen = fresh,
            None => {}
        }
        seen.wrong = seen.wrong.saturating_add(1);
        if seen.wrong < MOST {
            return Verdict::Answered;
        }
        seen.out_until = Some(now.plus(SHUT_OUT));
        Verdict::Last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);

    #[test]
    fn twenty_in_a_minute_are_enough() {
        let mut guesses = Guesses::default();
        let verdicts: Vec<Verdict> = (0..25).map(|at| guesses.wrong(PEER, Timestamp(at * 1000))).collect();
        assert!(verdicts[..19].iter().all(|verdict| *verdict == Verdict::Answered));
        assert_eq!(verdicts[19], Verdict::Last);
        assert!(verdicts[20..].iter().all(|verdict| *verdict == Verdict::ShutOut));
        assert_eq!(
            guesses.wrong(Ipv4Addr::new(192, 0, 2, 67), Timestamp(25_000)),
            Verdict::Answered
        );
        assert_eq!(guesses.wrong(PEER, Timestamp(618_999)), Verdict::ShutOut);
        assert_eq!(guesses.wrong(PEER, Timestamp(619_000)), Verdict::Answered);
    }

    #[test]
    fn a_few_now_and_then_are_no_guesses() {
        let mut guesses = Guesses::default();
        for at in 0..1000 {
            assert_eq!(guesses.wrong(PEER, Timestamp(at * 4000)), Verdict::Answered);
        }
    }

    #[test]
    fn it_stays_bounded() {
        let mut guesses = Guesses::default();
        for n in 0..10_000_u32 {
            guesses.wrong(Ipv4Addr::from(n), Timestamp(0));
        }
        assert!(guesses.0.len() <= ADDRESSES);
    }
}
