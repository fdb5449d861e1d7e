//! The lines of a timeline: repeats folded, progress replaced by its end, thousands of package files summed.
//!
//! Pure.

use crate::event::{Event, What, rate, size};
use crate::model::Timestamp;
use std::fmt;
use std::time::Duration;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// How long after the line before.
    pub gap: Duration,
    /// `DHCP`, `TFTP`, `HTTP`, `step`, or `note`.
    pub column: &'static str,
    /// What.
    pub text: String,
    /// How often the same came again.
    pub again: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gap = gap(self.gap);
        write!(f, "  {}  {gap:<7}  {:<4}  {}", self.at.clock(), self.column, self.text)?;
        match self.again {
            0 => Ok(()),
            1 => f.write_str("  (and once more)"),
            times => write!(f, "  (and {times} times more)"),
        }
    }
}

/// `+0.058`, `+23.1`, `+105`: as many digits as matter.
fn gap(gap: Duration) -> String {
    let (seconds, millis) = (gap.as_secs(), gap.subsec_millis());
    match seconds {
        0..=9 => format!("+{seconds}.{millis:03}"),
        10..=99 => format!("+{seconds}.{}", millis / 100),
        _ => format!("+{seconds}"),
    }
}

/// The lines of one boot.
pub(super) fn lines(events: &[Event]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut rest = events;
    let mut before = None;
    while let Some((event, tail)) = rest.split_first() {
        rest = tail;
        let Some((text, used)) = told(event, tail, events) else {
            continue;
        };
        rest = tail.get(used..).unwrap_or(&[]);
        let at = used
            .checked_sub(1)
            .and_then(|last| tail.get(last))
            .map_or(event.at, |last| last.at);
        let column = column(&event.what);
        // Firmware repeats itself: DISCOVER and our OFFER come in pairs.
        let end = lines.len();
        let twin = (1..=2).find_map(|back| {
            let line = end.checked_sub(back).and_then(|place| lines.get(place))?;
            (line.column == column && line.text == text && repeats(&event.what)).then_some(end.saturating_sub(back))
        });
        if let Some(line) = twin.and_then(|place| lines.get_mut(place)) {
            line.again = line.again.saturating_add(1);
            before = Some(at);
            continue;
        }
        lines.push(Line {
            at,
            gap: before.map_or(Duration::ZERO, |before| at.since(before)),
            column,
            text,
            again: 0,
        });
        before = Some(at);
    }
    lines
}

const fn repeats(what: &What) -> bool {
    matches!(
        what,
        What::DhcpReceived { .. }
            | What::DhcpAnswered { .. }
            | What::DhcpIgnored { .. }
            | What::DhcpForeignServer { .. }
            | What::TftpNotFound { .. }
            | What::HttpNotFound { .. }
            | What::AnswerRefused { .. }
            | What::TftpProbed { .. }
    )
}

const fn column(what: &What) -> &'static str {
    match what {
        What::DhcpReceived { .. }
        | What::DhcpAnswered { .. }
        | What::DhcpIgnored { .. }
        | What::DhcpForeignServer { .. }
        | What::DhcpDeclined { .. }
        | What::DhcpReleased { .. }
        | What::AddressInUse { .. }
        | What::PoolKept { .. }
        | What::PoolExhausted { .. } => "DHCP",
        What::TftpProbed { .. }
        | What::TftpSent { .. }
        | What::TftpProgress { .. }
        | What::TftpFailed { .. }
        | What::TftpNotFound { .. } => "TFTP",
        What::Script { .. }
        | What::HttpSent { .. }
        | What::TreeSent { .. }
        | What::HttpProgress { .. }
        | What::HttpBroken { .. }
        | What::HttpNotFound { .. }
        | What::AnswerFile { .. }
        | What::AnswerRefused { .. }
        | What::TemplateBroken { .. } => "HTTP",
        What::Stage { .. }
        | What::Claimed { .. }
        | What::Installed
        | What::ImageBooted
        | What::BootedFromDisk
        | What::Failed { .. }
        | What::Held { .. } => "step",
        What::Guest { .. } | What::GuestStopped { .. } => "host",
        What::GuestSerial { .. } => "tty",
        _ => "note",
    }
}

/// What a line says of `event`, and how many of the `tail` it speaks for. `None` where another line says it.
fn told(event: &Event, tail: &[Event], boot: &[Event]) -> Option<(String, usize)> {
    let next = tail.first().map(|event| &event.what);
    let one = |text: String| Some((text, 0));
    match &event.what {
        What::DhcpReceived {
            message,
            firmware,
            client,
        } => {
            if message == "REQUEST"
                && let Some(answer @ What::DhcpAnswered { message: ack, .. }) = next
                && ack == "ACK"
            {
                return Some((format!("REQUEST, {answer}"), 1));
            }
            let mut words = message.clone();
            for more in [client, firmware].into_iter().flatten() {
                words.push_str(if words.len() == message.len() { "  " } else { ", " });
                words.push_str(more);
            }
            one(words)
        }
        What::TftpProbed { file, .. } => match next {
            Some(What::TftpSent { file: sent, .. }) if sent == file => {
                next.map(|sent| (format!("{sent}, size asked first"), 1))
            }
            _ => one(event.what.to_string()),
        },
        What::TftpProgress { file, .. } => {
            let over = tail.iter().any(|later| match &later.what {
                What::TftpProgress { file: later, .. }
                | What::TftpSent { file: later, .. }
                | What::TftpFailed { file: later, .. } => later == file,
                _ => false,
            });
            if over {
                None
            } else {
                one(format!("{} so far", event.what))
            }
        }
        What::HttpProgress { path, .. } => {
            let over = tail.iter().any(|later| match &later.what {
                What::HttpProgress { path: later, .. }
                | What::HttpSent { path: later, .. }
                | What::HttpBroken { path: later, .. } => later == path,
                _ => false,
            });
            if over {
                None
            } else {
                one(format!("{} so far", event.what))
            }
        }
        What::TreeSent { .. } => Some(tree(event, tail)),
        // The state's own event, just before or after, says more.
        What::Stage {
            stage, detail: None, ..
        } if said_by_state(stage, event, boot) => None,
        _ => one(event.what.to_string()),
    }
}

/// True when the state told of `stage` by an event of its own.
fn said_by_state(stage: &str, event: &Event, boot: &[Event]) -> bool {
    boot.iter().any(|other| {
        let near = other.at.since(event.at).max(event.at.since(other.at)) < Duration::from_secs(5);
        near && matches!(
            (stage, &other.what),
            ("done", What::Installed) | ("booted", What::BootedFromDisk) | ("failed", What::Failed { .. })
        )
    })
}

/// Consecutive sums of tree files as one, which speaks for all of them.
fn tree(first: &Event, tail: &[Event]) -> (String, usize) {
    let (mut files, mut bytes, mut busy) = (0_u64, 0_u64, 0_u64);
    let mut latest = "";
    let mut count = 0_usize;
    for event in std::iter::once(first).chain(tail) {
        let What::TreeSent {
            files: more,
            bytes: sent,
            millis,
            last,
        } = &event.what
        else {
            break;
        };
        files = files.saturating_add(*more);
        bytes = bytes.saturating_add(*sent);
        busy = busy.saturating_add(*millis);
        latest = last;
        count = count.saturating_add(1);
    }
    let noun = if files == 1 { "file" } else { "files" };
    let mut text = format!("{files} {noun} of the tree  {}", size(bytes));
    let rate = rate(bytes, busy);
    if !rate.is_empty() {
        text.push_str(&format!("  {rate}"));
    }
    text.push_str(&format!(", the last {latest}"));
    (text, count.saturating_sub(1))
}
