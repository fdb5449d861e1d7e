//! What is remembered between calls: who is logged in, objects that were changed and not saved yet, tasks and their logs. All of it
//! bounded, in memory, and gone with the daemon.
//!
//! Pure: time and randomness are arguments.

use crate::inventory::Assignment;
use crate::model::{Kind, Name, Role, Standing, Timestamp, base32};
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Logins at a time. Past it the one that was used longest ago ends.
const TOKENS: usize = 1000;
/// How long a user's standing is believed before it is looked at again.
const JUDGED_FOR: Duration = Duration::from_secs(5);
/// Unsaved objects of all logins.
const DRAFTS: usize = 10_000;
/// Changes of one unsaved object.
const CHANGES: usize = 4096;
/// How long an unsaved object is kept after it was last touched, as Cobbler does.
const DRAFT_FOR: Duration = Duration::from_secs(3600);
/// Tasks that are remembered.
const TASKS: usize = 200;
/// Wrong passwords, and registrations, of one address in a [`WINDOW`].
const TRIES: u32 = 8;
/// The same of all addresses.
const TRIES_IN_ALL: u32 = 60;
/// The time in which they are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are told apart.
const ADDRESSES: usize = 4096;

/// Who is logged in.
#[derive(Clone)]
struct Login {
    user: String,
    standing: Standing,
    used: Timestamp,
    /// When it was last looked whether the user still stands so.
    judged: Timestamp,
}

/// An object that is being made or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Its kind.
    pub kind: Kind,
    /// The object that it changes; none for a new one.
    pub of: Option<Name>,
    /// The name that a new one was given.
    pub name: Option<String>,
    /// Its fields, in the order given.
    pub fields: Vec<Assignment>,
    /// Cobbler's `netboot_enabled`, where it was given.
    pub netboot: Option<bool>,
    touched: Timestamp,
}

impl Draft {
    /// A draft without a change yet.
    #[must_use]
    pub const fn new(kind: Kind, of: Option<Name>, now: Timestamp) -> Self {
        Self {
            kind,
            of,
            name: None,
            fields: Vec::new(),
            netboot: None,
            touched: now,
        }
    }

    /// Sets a field. One that is no interface's has its last value only.
    pub fn set(&mut self, field: &str, text: String) {
        self.fields.retain(|(known, _)| known != field);
        self.fields.push((field.to_owned(), text));
    }

    /// True when nothing was changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.netboot.is_none()
    }
}

/// A task: what `background_*` started.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Names it.
    pub id: String,
    /// What it is, for people.
    pub name: String,
    /// When it began.
    pub at: Timestamp,
    /// `running`, `complete` or `failed`.
    pub state: &'static str,
    /// What it said.
    pub log: String,
    /// Users that were told of it.
    pub read_by: Vec<String>,
}

/// Counts of one minute.
#[derive(Debug, Clone, Copy)]
struct Tries {
    since: Timestamp,
    count: u32,
}

/// Everything that is remembered.
#[derive(Default)]
pub struct Sessions {
    logins: BTreeMap<String, Login>,
    drafts: BTreeMap<(String, String), Draft>,
    tasks: VecDeque<Task>,
    tries: BTreeMap<(Ipv4Addr, bool), Tries>,
}

/// Never shows a token.
impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Sessions({} logins, {} drafts)",
            self.logins.len(),
            self.drafts.len()
        )
    }
}

impl Sessions {
    /// The user of `token`, which then lasts anew.
    pub fn user(&mut self, token: &str, now: Timestamp, lasts: Duration) -> Option<(String, Role)> {
        let login = self.logins.get_mut(token)?;
        if now.since(login.used) >= lasts {
            self.close(token);
            return None;
        }
        login.used = now;
        Some((login.user.clone(), login.standing.role))
    }

    /// Opens a login and gives its token.
    pub fn open(&mut self, user: &str, standing: Standing, random: &[u8; 32], now: Timestamp) -> String {
        if self.logins.len() >= TOKENS {
            let oldest = self.logins.iter().min_by_key(|(_, login)| login.used);
            if let Some(oldest) = oldest.map(|(token, _)| token.clone()) {
                self.close(&oldest);
            }
        }
        let token = base32(random);
        let user = user.to_owned();
        let login = Login {
            user,
            standing,
            used: now,
            judged: now,
        };
        self.logins.insert(token.clone(), login);
        token
    }

    /// Ends a login; what it did not save is lost.
    pub fn close(&mut self, token: &str) -> bool {
        self.drafts.retain(|(of, _), _| of != token);
        self.logins.remove(token).is_some()
    }

    /// The user whose standing is to be looked at again before this token is believed: he may be gone, or have another password.
    #[must_use]
    pub fn to_judge(&self, token: &str, now: Timestamp) -> Option<String> {
        let login = self.logins.get(token)?;
        (now.since(login.judged) >= JUDGED_FOR).then(|| login.user.clone())
    }

    /// Takes in how the token's user stands; the login ends when that has changed. True while it lasts.
    pub fn judge(&mut self, token: &str, standing: Option<Standing>, now: Timestamp) -> bool {
        match self.logins.get_mut(token) {
            Some(login) if standing == Some(login.standing) => {
                login.judged = now;
                true
            }
            _ => {
                self.close(token);
                false
            }
        }
    }

    /// The draft behind a handle of this login.
    #[must_use]
    pub fn draft(&self, token: &str, handle: &str) -> Option<&Draft> {
        self.drafts.get(&(token.to_owned(), handle.to_owned()))
    }

    /// Keeps a draft; false when there are too many.
    pub fn keep(&mut self, token: &str, handle: &str, mut draft: Draft, now: Timestamp) -> bool {
        self.drafts.retain(|_, draft| now.since(draft.touched) < DRAFT_FOR);
        let key = (token.to_owned(), handle.to_owned());
        if self.drafts.len() >= DRAFTS {
            // A handle that was new and is saved means its object, until there is no room for that.
            self.drafts.retain(|_, draft| draft.of.is_none() || !draft.is_empty());
        }
        if draft.fields.len() > CHANGES || (self.drafts.len() >= DRAFTS && !self.drafts.contains_key(&key)) {
            return false;
        }
        draft.touched = now;
        self.drafts.insert(key, draft);
        true
    }

    /// Forgets a draft: it is saved, or its object is gone. The handle of one that was new means the object from now on.
    pub fn forget(&mut self, token: &str, handle: &str, now: Timestamp) {
        let key = (token.to_owned(), handle.to_owned());
        let Some(draft) = self.drafts.remove(&key) else { return };
        if let (None, Some(name)) = (&draft.of, draft.name.and_then(|name| name.parse().ok())) {
            self.drafts.insert(key, Draft::new(draft.kind, Some(name), now));
        }
    }

    /// What this login changed on objects that there are, and did not save.
    #[must_use]
    pub fn unsaved(&self, token: &str) -> Vec<(String, Draft)> {
        let own = self.drafts.iter().filter(|((of, _), _)| of == token);
        own.filter(|(_, draft)| draft.of.is_some() && !draft.is_empty())
            .map(|((_, handle), draft)| (handle.clone(), draft.clone()))
            .collect()
    }

    /// Remembers a task.
    pub fn remember(&mut self, task: Task) {
        if self.tasks.len() >= TASKS {
            self.tasks.pop_front();
        }
        self.tasks.push_back(task);
    }

    /// Notes that a task is over.
    pub fn end(&mut self, id: &str, failed: bool, log: String) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
            task.state = if failed { "failed" } else { "complete" };
            task.log = log;
        }
    }

    /// The tasks, the oldest first.
    pub fn tasks(&mut self) -> impl Iterator<Item = &mut Task> {
        self.tasks.iter_mut()
    }

    /// The task of that id.
    #[must_use]
    pub fn task(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// True while `peer` may try to log in, or to register; counts the try.
    pub fn may_try(&mut self, peer: Ipv4Addr, registers: bool, now: Timestamp) -> bool {
        self.tries.retain(|_, tries| now.since(tries.since) < WINDOW);
        if self.tries.len() >= ADDRESSES {
            return false;
        }
        let all: u32 = self
            .tries
            .iter()
            .filter(|((_, kind), _)| *kind == registers)
            .fold(0, |sum, (_, tries)| sum.saturating_add(tries.count));
        let tries = self
            .tries
            .entry((peer, registers))
            .or_insert(Tries { since: now, count: 0 });
        if tries.count >= TRIES || all >= TRIES_IN_ALL {
            return false;
        }
        tries.count = tries.count.saturating_add(1);
        true
    }

    /// A login that was right is no guess.
    pub fn was_right(&mut self, peer: Ipv4Addr) {
        self.tries.remove(&(peer, false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: Standing = Standing {
        role: Role::Admin,
        stamp: 1,
    };
    const READER: Standing = Standing {
        role: Role::Reader,
        stamp: 2,
    };
    const HOUR: Duration = Duration::from_secs(3600);
    const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    #[test]
    fn a_login_lasts_while_it_is_used() {
        let mut sessions = Sessions::default();
        let token = sessions.open("admin", ADMIN, &[7; 32], Timestamp(0));
        assert_eq!(token.len(), 56);
        assert_eq!(
            sessions
                .user(&token, Timestamp(3_599_000), HOUR)
                .map(|(user, _)| user)
                .as_deref(),
            Some("admin")
        );
        assert_eq!(
            sessions
                .user(&token, Timestamp(7_198_000), HOUR)
                .map(|(user, _)| user)
                .as_deref(),
            Some("admin")
        );
        assert_eq!(sessions.user(&token, Timestamp(10_798_000), HOUR), None);
        assert_eq!(sessions.user(&token, Timestamp(10_798_001), HOUR), None);
        assert_eq!(sessions.user("", Timestamp(0), HOUR), None);
    }

    #[test]
    fn drafts_belong_to_their_login() {
        let mut sessions = Sessions::default();
        let one = sessions.open("a", ADMIN, &[1; 32], Timestamp(0));
        let two = sessions.open("b", READER, &[2; 32], Timestamp(0));
        let draft = Draft::new(Kind::System, Some("web1".parse().unwrap()), Timestamp(0));
        assert!(sessions.keep(&one, "system::web1", draft, Timestamp(0)));
        assert!(sessions.draft(&two, "system::web1").is_none() && sessions.draft(&one, "system::web1").is_some());
        assert_eq!(sessions.to_judge(&one, Timestamp(4999)), None);
        assert_eq!(sessions.to_judge(&one, Timestamp(5000)).as_deref(), Some("a"));
        assert!(sessions.judge(&one, Some(ADMIN), Timestamp(5000)));
        assert!(!sessions.judge(&one, Some(READER), Timestamp(10_000)));
        assert!(sessions.draft(&one, "system::web1").is_none());
        assert!(sessions.user(&two, Timestamp(1), HOUR).is_some());
    }

    #[test]
    fn who_guesses_waits() {
        let mut sessions = Sessions::default();
        let tried = (0..20).filter(|_| sessions.may_try(PEER, false, Timestamp(0))).count();
        assert_eq!(tried, 8);
        assert!(sessions.may_try(PEER, true, Timestamp(0)));
        assert!(sessions.may_try(Ipv4Addr::new(192, 0, 2, 8), false, Timestamp(0)));
        assert!(sessions.may_try(PEER, false, Timestamp(60_000)));
        let mut crowd = Sessions::default();
        let tried = (0..200_u32).filter(|n| crowd.may_try(Ipv4Addr::from(*n), true, Timestamp(0)));
        assert_eq!(tried.count(), 60);
    }

    #[test]
    fn it_stays_bounded() {
        let mut sessions = Sessions::default();
        for n in 0..2000_u32 {
            let mut random = [0; 32];
            random[..4].copy_from_slice(&n.to_be_bytes());
            sessions.open("a", ADMIN, &random, Timestamp(n.into()));
        }
        assert_eq!(sessions.logins.len(), TOKENS);
    }
}
