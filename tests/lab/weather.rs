//! What a bad link does to frames: it loses, doubles, delays and lets overtake, by a seed and the time it is given.
//! It must never look at a clock or take chance from elsewhere: the same seed and the same frames give the same weather.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// A frame that is let be overtaken is held back so much longer than its neighbours.
const HELD_BACK: Duration = Duration::from_millis(4);

/// How one direction of a link treats its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weather {
    /// Of a thousand frames so many are lost.
    pub lost: u32,
    /// Of a thousand frames so many arrive twice.
    pub doubled: u32,
    /// Of a thousand frames so many are overtaken by the ones behind them.
    pub overtaken: u32,
    /// How long each frame takes.
    pub delay: Duration,
}

impl Weather {
    /// Nothing happens to a frame.
    pub const FINE: Self = Self {
        lost: 0,
        doubled: 0,
        overtaken: 0,
        delay: Duration::ZERO,
    };
    /// 5 % lost, 2 % doubled, 2 % overtaken.
    pub const BAD: Self = Self {
        lost: 50,
        doubled: 20,
        overtaken: 20,
        delay: Duration::ZERO,
    };

    /// As one word, for a child's environment.
    #[must_use]
    pub fn to_word(self) -> String {
        let micros = self.delay.as_micros();
        format!("{},{},{},{micros}", self.lost, self.doubled, self.overtaken)
    }

    /// What [`Weather::to_word`] wrote.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let mut numbers = word.split(',').map(|number| number.parse::<u32>().ok());
        let mut next = || numbers.next().flatten();
        Some(Self {
            lost: next()?,
            doubled: next()?,
            overtaken: next()?,
            delay: Duration::from_micros(next()?.into()),
        })
    }
}

/// What happened in one direction so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Counted {
    pub frames_in: u64,
    pub bytes_in: u64,
    pub lost: u64,
    pub doubled: u64,
    pub overtaken: u64,
    pub frames_out: u64,
    pub bytes_out: u64,
}

/// One direction of a link, and the frames that are under way on it.
pub struct Line {
    weather: Weather,
    random: Random,
    counted: Counted,
    /// By due time, then by order of arrival.
    under_way: BinaryHeap<Reverse<(Duration, u64, Vec<u8>)>>,
    number: u64,
}

impl Line {
    #[must_use]
    pub fn new(weather: Weather, seed: u64) -> Self {
        Self {
            weather,
            random: Random(seed),
            counted: Counted::default(),
            under_way: BinaryHeap::new(),
            number: 0,
        }
    }

    /// Takes a frame that comes in at `now`, and says when its copies are due: none, one or two times.
    pub fn take(&mut self, frame: &[u8], now: Duration) -> Vec<Duration> {
        self.counted.frames_in += 1;
        self.counted.bytes_in += frame.len() as u64;
        // Each is drawn for each frame, so that one setting does not shift what the others do.
        let [lost, doubled, overtaken] =
            [self.weather.lost, self.weather.doubled, self.weather.overtaken].map(|often| self.random.hits(often));
        if lost {
            self.counted.lost += 1;
            return Vec::new();
        }
        let mut due = now + self.weather.delay;
        if overtaken {
            self.counted.overtaken += 1;
            due += HELD_BACK;
        }
        self.counted.doubled += u64::from(doubled);
        let dues = vec![due; if doubled { 2 } else { 1 }];
        for due in &dues {
            self.number += 1;
            self.under_way.push(Reverse((*due, self.number, frame.to_vec())));
        }
        dues
    }

    /// The next frame that has arrived by `now`.
    pub fn arrived(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse((_, _, frame)) = self.under_way.pop()?;
        self.counted.frames_out += 1;
        self.counted.bytes_out += frame.len() as u64;
        Some(frame)
    }

    /// When the next frame arrives.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.under_way.peek().map(|Reverse((due, _, _))| *due)
    }

    #[must_use]
    pub const fn counted(&self) -> Counted {
        self.counted
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): every seed is a good one, zero too.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn hits(&mut self, of_a_thousand: u32) -> bool {
        self.next() % 1000 < u64::from(of_a_thousand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends numbered frames a millisecond apart and returns the numbers in the order of their arrival.
    fn sent(weather: Weather, seed: u64, frames: u16) -> (Vec<u16>, Counted) {
        let mut line = Line::new(weather, seed);
        let mut arrived = Vec::new();
        for number in 0..frames {
            let now = MS * u32::from(number);
            line.take(&number.to_be_bytes(), now);
            while let Some(frame) = line.arrived(now) {
                arrived.push(u16::from_be_bytes([frame[0], frame[1]]));
            }
        }
        while let Some(due) = line.next_due() {
            let frame = line.arrived(due).unwrap();
            arrived.push(u16::from_be_bytes([frame[0], frame[1]]));
        }
        (arrived, line.counted())
    }

    #[test]
    fn fine_weather_changes_nothing() {
        let (arrived, counted) = sent(Weather::FINE, 1, 1000);
        assert_eq!(arrived, (0..1000).collect::<Vec<_>>());
        assert_eq!((counted.frames_out, counted.bytes_out), (1000, 2000));
        assert_eq!((counted.lost, counted.doubled, counted.overtaken), (0, 0, 0));
    }

    #[test]
    fn bad_weather_is_as_bad_as_it_was_asked_to_be() {
        for seed in 0..20 {
            let (arrived, counted) = sent(Weather::BAD, seed, 20_000);
            assert!((850..1150).contains(&counted.lost), "seed {seed}: {counted:?}");
            assert!((300..500).contains(&counted.doubled), "seed {seed}: {counted:?}");
            assert!((300..500).contains(&counted.overtaken), "seed {seed}: {counted:?}");
            assert_eq!(counted.frames_in, 20_000);
            assert_eq!(counted.frames_out, counted.frames_in - counted.lost + counted.doubled);
            assert_eq!(arrived.len() as u64, counted.frames_out);
            let backwards = arrived.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
            assert!(backwards > counted.overtaken / 2, "seed {seed}: {backwards} went back");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_weather_and_another_gives_other() {
        assert_eq!(sent(Weather::BAD, 7, 500), sent(Weather::BAD, 7, 500));
        assert_ne!(sent(Weather::BAD, 7, 500), sent(Weather::BAD, 8, 500));
    }

    #[test]
    fn a_frame_takes_its_time() {
        let mut line = Line::new(
            Weather {
                delay: MS * 20,
                ..Weather::FINE
            },
            1,
        );
        assert_eq!(line.take(b"one", MS), [MS * 21]);
        assert_eq!(line.arrived(MS * 20), None);
        assert_eq!(line.next_due(), Some(MS * 21));
        assert_eq!(line.arrived(MS * 21), Some(b"one".to_vec()));
        assert_eq!(line.arrived(MS * 99), None);
    }

    #[test]
    fn all_or_nothing_is_possible() {
        let all = Weather {
            doubled: 1000,
            ..Weather::FINE
        };
        assert_eq!(sent(all, 1, 100).1.frames_out, 200);
        let none = Weather {
            lost: 1000,
            ..Weather::FINE
        };
        assert_eq!(sent(none, 1, 100).1.frames_out, 0);
    }

    #[test]
    fn a_word_is_read_as_it_was_written() {
        let weather = Weather {
            delay: Duration::from_micros(1500),
            ..Weather::BAD
        };
        assert_eq!(weather.to_word(), "50,20,20,1500");
        assert_eq!(Weather::from_word(&weather.to_word()), Some(weather));
        for wrong in ["", "1,2,3", "1,2,x,4"] {
            assert_eq!(Weather::from_word(wrong), None, "{wrong}");
        }
    }
}
