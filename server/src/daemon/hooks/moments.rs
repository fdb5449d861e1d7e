//! Which hooks a change of the inventory and a sync call for: Cobbler's `add`, `delete`, `change` and `sync`.
#![expect(clippy::disallowed_methods, reason = "looks which folders of hooks there are")]

use super::WAITING;
use super::program::Call;
use crate::model::{Kind, Name};
use std::collections::VecDeque;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// A sync whose hooks here fail has no others run.
pub(super) const BEFORE_SYNC: &str = "sync/pre";
/// Batches of changes that may wait to be looked at.
const TOLD: usize = 1024;

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is new.
    Add,
    /// It was there.
    Edit,
    /// It is gone.
    Delete,
}

/// One object that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    /// What became of it.
    pub(crate) act: Act,
    /// Its kind.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: Name,
}

/// What hooks are told of.
#[derive(Debug)]
pub(crate) enum Told {
    /// These are served now.
    Changed(Vec<Changed>),
    /// A sync was asked for.
    Synced,
}

/// Tells, and never waits.
#[derive(Debug, Clone)]
pub(crate) struct Teller(mpsc::Sender<Told>);

impl Teller {
    /// Tells of what happened.
    pub(crate) fn tell(&self, what: Told) {
        if self.0.try_send(what).is_err() {
            tracing::warn!("changes came too fast to run hooks for them");
        }
    }
}

/// A teller, and what hears it.
pub(crate) fn teller() -> (Teller, mpsc::Receiver<Told>) {
    let (sender, told) = mpsc::channel(TOLD);
    (Teller(sender), told)
}

/// Calls that wait, each with those that follow it.
pub(super) struct Moments {
    root: PathBuf,
    waiting: VecDeque<Vec<Call>>,
}

impl Moments {
    pub(super) const fn new(root: PathBuf) -> Self {
        Self {
            root,
            waiting: VecDeque::new(),
        }
    }

    /// Says of folders whose hooks Cobbler would ask for leave that they are not run.
    pub(super) fn warn_of_refusers(&self) {
        for kind in Kind::ALL {
            for act in ["add", "delete"] {
                let folder = self.root.join(format!("{act}/{kind}/pre"));
                if folder.is_dir() {
                    tracing::warn!(
                        "the hooks in {} are not run: no hook refuses a change here; those in post run after it",
                        folder.display()
                    );
                }
            }
        }
    }

    /// Queues what there are folders for.
    pub(super) fn take(&mut self, told: Told) {
        match told {
            Told::Synced => {
                let calls = [BEFORE_SYNC, "sync/post", "change"].map(|folder| Call {
                    folder: folder.to_owned(),
                    arguments: Vec::new(),
                    environment: vec![("CORDWAINER_EVENT", "sync".to_owned())],
                });
                let _fits = self.queue(calls.into());
            }
            Told::Changed(all) => {
                let count = all.len();
                for (done, one) in all.into_iter().enumerate() {
                    if !self.queue(calls_of(&one)) {
                        let lost = count.saturating_sub(done);
                        tracing::warn!("the hooks of {lost} changes are left out, {WAITING} wait already");
                        return;
                    }
                }
            }
        }
    }

    /// False when there is no room.
    fn queue(&mut self, mut calls: Vec<Call>) -> bool {
        calls.retain(|call| self.root.join(&call.folder).is_dir());
        if calls.is_empty() {
            return true;
        }
        let fits = self.waiting.len() < WAITING;
        if fits {
            self.waiting.push_back(calls);
        }
        fits
    }

    /// Those that are next.
    pub(super) fn next(&mut self) -> Option<Vec<Call>> {
        self.waiting.pop_front()
    }
}

fn calls_of(one: &Changed) -> Vec<Call> {
    // Cobbler runs those of add for an edit too.
    let (folder, event) = match one.act {
        Act::Add => ("add", "add"),
        Act::Edit => ("add", "edit"),
        Act::Delete => ("delete", "delete"),
    };
    [format!("{folder}/{}/post", one.kind), "change".to_owned()]
        .map(|folder| Call {
            folder,
            arguments: vec![one.name.to_string()],
            environment: vec![
                ("CORDWAINER_EVENT", event.to_owned()),
                ("CORDWAINER_KIND", one.kind.to_string()),
                ("CORDWAINER_NAME", one.name.to_string()),
            ],
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_folder_waits_and_not_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut moments = Moments::new(dir.path().to_owned());
        let one = |act| Changed {
            act,
            kind: Kind::System,
            name: "web1".parse().unwrap(),
        };
        moments.take(Told::Changed(vec![one(Act::Add), one(Act::Delete)]));
        moments.take(Told::Synced);
        assert!(moments.next().is_none());
        std::fs::create_dir_all(dir.path().join("add/system/post")).unwrap();
        std::fs::create_dir_all(dir.path().join("sync/post")).unwrap();
        moments.take(Told::Changed(vec![one(Act::Edit), one(Act::Delete)]));
        moments.take(Told::Synced);
        let calls: Vec<Call> = std::iter::from_fn(|| moments.next()).flatten().collect();
        let shown: Vec<_> = calls
            .iter()
            .map(|call| (call.folder.as_str(), &call.arguments[..]))
            .collect();
        assert_eq!(
            shown,
            [("add/system/post", &["web1".to_owned()][..]), ("sync/post", &[])]
        );
        assert_eq!(calls[0].environment[0], ("CORDWAINER_EVENT", "edit".to_owned()));
        moments.take(Told::Changed(vec![one(Act::Add); WAITING + 7]));
        assert_eq!(std::iter::from_fn(|| moments.next()).count(), WAITING);
    }
}
