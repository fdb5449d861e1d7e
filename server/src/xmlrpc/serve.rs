//! Moves calls: reads them off the reactor, asks the pure half, has changes stored and passwords verified, writes the answer.
//!
//! IO. Never decides anything: what a method may do is said in the table of methods.
#![expect(
    clippy::disallowed_methods,
    reason = "runs calls on the blocking pool and takes random numbers"
)]

use super::decode::{self, Limits};
use super::encode;
use super::fault::Fault;
use super::methods::{Admitted, Asked, Outcome, admit, keep, look};
use super::session::{Sessions, Task};
use super::value::Value;
use crate::boot::World;
use crate::inventory::Change;
use crate::model::{Name, Power, Secret};
use crate::ports::{BoxFuture, Caller, Powers, Rpc, TextChange, Worlds, Writes};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Passwords that are verified at a time; each takes 19 MiB.
const VERIFIED: usize = 2;
/// Systems whose power is switched at a time, and tasks that do so.
const SWITCHED: usize = 4;

/// Cobbler's XML-RPC over a world.
pub struct Face {
    worlds: Arc<dyn Worlds>,
    writes: Arc<dyn Writes>,
    powers: Arc<dyn Powers>,
    sessions: Arc<Mutex<Sessions>>,
    verifying: Semaphore,
    switching: Arc<Semaphore>,
}

impl std::fmt::Debug for Face {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Face")
    }
}

/// What the first look at a call came to.
enum Step {
    Answer(String),
    /// A sync that had nothing to store.
    Synced(String),
    Verify {
        user: String,
        password: Secret<String>,
        random: [u8; 32],
        world: Box<World>,
    },
    Store(Box<Storing>),
    Power(Box<Switching>),
    Write {
        change: TextChange,
        method: &'static str,
        user: String,
    },
}

struct Switching {
    systems: Vec<Name>,
    power: Power,
    task: Option<Box<Task>>,
    user: String,
}

struct Storing {
    changes: Vec<Change>,
    then: Value,
    saved: Vec<String>,
    task: Option<Box<Task>>,
    method: &'static str,
    syncs: bool,
    login: Option<(String, String)>,
}

fn lock(sessions: &Mutex<Sessions>) -> MutexGuard<'_, Sessions> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Face {
    /// Answers over these.
    #[must_use]
    pub fn new(worlds: Arc<dyn Worlds>, writes: Arc<dyn Writes>, powers: Arc<dyn Powers>) -> Self {
        Self {
            worlds,
            writes,
            powers,
            sessions: Arc::default(),
            verifying: Semaphore::new(VERIFIED),
            switching: Arc::new(Semaphore::new(SWITCHED)),
        }
    }

    /// Ends logins whose user is gone or has another password, before a token in this call is believed.
    async fn judge(&self, call: &decode::Call, world: &World) {
        let due: Vec<(String, String)> = {
            let sessions = lock(&self.sessions);
            let texts = call.arguments.iter().filter_map(Value::text);
            texts
                .filter_map(|text| Some((text.to_owned(), sessions.to_judge(text, world.now)?)))
                .collect()
        };
        for (token, user) in due {
            let standing = self.writes.standing(user).await;
            lock(&self.sessions).judge(&token, standing, world.now);
        }
    }

    async fn answer(&self, caller: Caller, body: Vec<u8>) -> String {
        let fault = |fault: &Fault| encode::fault(fault.said());
        let read = spawn_blocking(move || decode::call(&body, Limits::CALL));
        let call = match read.await {
            Ok(Ok(call)) => call,
            Ok(Err(bad)) => return fault(&Fault::cx(&bad.to_string())),
            Err(_) => return fault(&Fault::cx("internal error")),
        };
        let world = self.worlds.world();
        self.judge(&call, &world).await;
        let sessions = self.sessions.clone();
        let first = spawn_blocking(move || step(&sessions, &world, caller, &call));
        let step = match first.await {
            Ok(Ok(step)) => step,
            Ok(Err(error)) => return fault(&error),
            Err(_) => return fault(&Fault::cx("internal error")),
        };
        match step {
            Step::Answer(xml) => xml,
            Step::Synced(xml) => {
                self.writes.synced();
                xml
            }
            Step::Verify {
                user,
                password,
                random,
                world,
            } => {
                let Ok(_turn) = self.verifying.acquire().await else {
                    return fault(&Fault::cx("internal error"));
                };
                match self.writes.verify(user.clone(), password).await {
                    Some(standing) => {
                        let mut sessions = lock(&self.sessions);
                        sessions.was_right(caller.peer);
                        let token = sessions.open(&user, standing, &random, world.now);
                        tracing::info!(user = %user.escape_debug(), peer = %caller.peer, "XML-RPC login");
                        encode::answer(&token.into())
                    }
                    None => {
                        tracing::warn!(user = %user.escape_debug(), peer = %caller.peer, "XML-RPC login failed");
                        fault(&Fault::cx("login failed"))
                    }
                }
            }
            Step::Store(storing) => self.store(caller, *storing).await,
            Step::Power(switching) => self.switch(caller, *switching).await,
            Step::Write { change, method, user } => {
                let path = change.path.clone();
                match self.writes.text(change).await {
                    Ok(()) => {
                        tracing::info!(user = %user.escape_debug(), peer = %caller.peer, method, %path, "XML-RPC change");
                        encode::answer(&Value::Bool(true))
                    }
                    Err(why) => fault(&Fault::cx(&why)),
                }
            }
        }
    }

    /// Has power switched: awaited for one system, and by a task that goes on after the answer.
    async fn switch(&self, caller: Caller, switching: Switching) -> String {
        let Switching {
            systems,
            power,
            task,
            user,
        } = switching;
        // A hypervisor far away may be slow: who asks for more meanwhile is told so, and holds no place.
        let Ok(turn) = self.switching.clone().try_acquire_owned() else {
            return encode::fault(Fault::cx("power is being switched already; try again").said());
        };
        tracing::info!(user = %user.escape_debug(), peer = %caller.peer, systems = systems.len(), %power, "XML-RPC power");
        let powers = self.powers.clone();
        let Some(task) = task else {
            let Some(system) = systems.into_iter().next() else {
                return encode::fault(Fault::cx("no system is named").said());
            };
            return match powers.power(system, power).await {
                Ok(on) => encode::answer(&Value::Bool(on || power != Power::Status)),
                Err(why) => encode::fault(Fault::cx(&why).said()),
            };
        };
        let (sessions, id) = (self.sessions.clone(), task.id.clone());
        let answer = encode::answer(&id.as_str().into());
        lock(&sessions).remember(*task);
        tokio::spawn(async move {
            let (mut log, mut failed) = (String::new(), false);
            for system in systems {
                let said = powers.power(system.clone(), power).await;
                failed |= said.is_err();
                let said = said.map(|on| if on { "on" } else { "off" }.to_owned());
                log.push_str(&format!("{system}: {}\n", said.unwrap_or_else(|why| why)));
            }
            let end = if failed { "FAILED" } else { "COMPLETE" };
            log.push_str(&format!("*** TASK {end} ***\n"));
            lock(&sessions).end(&id, failed, log);
            drop(turn);
        });
        answer
    }

    async fn store(&self, caller: Caller, storing: Storing) -> String {
        let stored = self.writes.commit(storing.changes).await;
        let now = self.worlds.world().now;
        let user = storing.login.as_ref().map_or("nobody", |(user, _)| user.as_str());
        let mut sessions = lock(&self.sessions);
        if let Some(mut task) = storing.task {
            if let Err(why) = &stored {
                task.state = "failed";
                task.log = format!("{why}\n*** TASK FAILED ***\n");
            }
            sessions.remember(*task);
        }
        match stored {
            Ok(()) => {
                tracing::info!(user = %user.escape_debug(), peer = %caller.peer, method = storing.method, "XML-RPC change");
                if storing.syncs {
                    self.writes.synced();
                }
                if let Some((_, token)) = &storing.login {
                    for handle in &storing.saved {
                        sessions.forget(token, handle, now);
                    }
                }
                encode::answer(&storing.then)
            }
            Err(why) => encode::fault(Fault::cx(&why).said()),
        }
    }
}

impl Rpc for Face {
    fn call(&self, caller: Caller, body: Vec<u8>) -> BoxFuture<'_, String> {
        Box::pin(self.answer(caller, body))
    }
}

fn step(sessions: &Mutex<Sessions>, world: &World, caller: Caller, call: &decode::Call) -> Result<Step, Fault> {
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random).map_err(|_| Fault::cx("the system gives no random numbers"))?;
    let admitted: Admitted = admit(world, &mut lock(sessions), &call.method, &call.arguments)?;
    let asked = Asked {
        world,
        caller,
        arguments: &call.arguments,
        admitted: &admitted,
        random: &random,
    };
    if admitted.method.looks() {
        return Ok(Step::Answer(encode::answer(&look(&asked)?)));
    }
    Ok(match keep(&asked, &mut lock(sessions))? {
        Outcome::Done(value) if admitted.method.is_sync() => Step::Synced(encode::answer(&value)),
        Outcome::Done(value) => Step::Answer(encode::answer(&value)),
        Outcome::Write(change) => Step::Write {
            change,
            method: admitted.method.name,
            user: admitted.login.map_or_else(String::new, |(user, ..)| user),
        },
        Outcome::Verify { user, password } => Step::Verify {
            user,
            password,
            random,
            world: Box::new(world.clone()),
        },
        Outcome::Power { systems, power, task } => Step::Power(Box::new(Switching {
            systems,
            power,
            task,
            user: admitted.login.map(|(user, ..)| user).unwrap_or_default(),
        })),
        Outcome::Store {
            changes,
            then,
            saved,
            task,
        } => Step::Store(Box::new(Storing {
            changes,
            then,
            saved,
            task,
            method: admitted.method.name,
            syncs: admitted.method.is_sync(),
            login: admitted.login.map(|(user, _, token)| (user, token)),
        })),
    })
}
