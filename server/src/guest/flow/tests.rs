//! The flow, table by table, and then whatever order the world may take: kills between any two effects included.

#![allow(clippy::arithmetic_side_effects, reason = "tests stop at the first surprise")]

use super::*;

const T0: Timestamp = Timestamp(1_000_000);

fn at(seconds: i64) -> Timestamp {
    Timestamp(T0.0 + seconds * 1000)
}

fn job(phase: Phase, power: Power) -> Job {
    Job {
        phase,
        power,
        autostart: true,
        ..Job::new(Proof::Report)
    }
}

const INSTALLER: Power = Power::On(Boot::Installer);
const DISK: Power = Power::On(Boot::Disk);

fn stopped_at(seconds: i64, how: Stop) -> Phase {
    Phase::Stopped { at: at(seconds), how }
}

fn open(partitioned: bool) -> Input {
    Input::Server(Heard::Open { partitioned })
}

fn heard_done() -> Input {
    Input::Server(Heard::Done { booted: false })
}

/// Feeds inputs at seconds; all effects but the telling ones.
fn run(mut job: Job, inputs: &[(i64, Input)]) -> (Job, Vec<Effect>) {
    let mut all = Vec::new();
    for (seconds, input) in inputs {
        let (next, effects) = step(&job, input, at(*seconds));
        all.extend(effects.into_iter().filter(|effect| !matches!(effect, Effect::Tell(_))));
        job = next;
    }
    (job, all)
}

#[test]
fn the_whole_way() {
    use Effect::{AskServer, Autostart, Launch, Release, Remember, StartFromDisk};
    let fresh = Job {
        autostart: true,
        ..Job::new(Proof::Report)
    };
    let (job, effects) = run(
        fresh,
        &[
            (0, Input::Prepared),
            (1, Input::Launched),
            (60, heard_done()),
            (62, Input::Stopped(Stop::Guest)),
            (63, Input::Started(Boot::Disk)),
        ],
    );
    assert_eq!(job.phase, Phase::Installed);
    assert_eq!(
        effects,
        [
            Remember,
            Launch,
            Remember,
            AskServer,
            Remember,
            Remember,
            StartFromDisk,
            Autostart,
            Remember,
            Release
        ]
    );
}

#[test]
fn done_and_stop_come_in_either_order() {
    for (inputs, expected) in [
        // Done, then the stop, however late within ten minutes.
        (
            vec![(0, heard_done()), (29, Input::Stopped(Stop::Guest))],
            Phase::Starting,
        ),
        (
            vec![(0, heard_done()), (400, Input::Stopped(Stop::Guest))],
            Phase::Starting,
        ),
        // The stop, then done within 30 s; the server is asked at once, and again at the end.
        (
            vec![(0, Input::Stopped(Stop::Guest)), (29, heard_done())],
            Phase::Starting,
        ),
        (
            vec![(0, Input::Stopped(Stop::Guest)), (29, open(true))],
            stopped_at(0, Stop::Guest),
        ),
        (
            vec![(0, Input::Stopped(Stop::Guest)), (30, open(true))],
            Phase::Failed {
                reason: "it powered off or rebooted, and done was never reported".into(),
            },
        ),
        // The server cannot be asked for an hour: nothing is failed, and done is heard in the end.
        (
            vec![
                (0, Input::Stopped(Stop::Guest)),
                (31, Input::Tick),
                (3600, Input::Tick),
                (3601, heard_done()),
            ],
            Phase::Starting,
        ),
        // QEMU dies after done: what was reported holds.
        (
            vec![(0, heard_done()), (1, Input::Stopped(Stop::Killed))],
            Phase::Starting,
        ),
        (
            vec![(0, Input::Stopped(Stop::Killed)), (31, open(true))],
            Phase::Failed {
                reason: "its QEMU process did not start or died, and done was never reported".into(),
            },
        ),
        // An admin's destroy is a cancel, and after done it is off and installed.
        (vec![(0, Input::Stopped(Stop::Destroyed))], Phase::Cancelled),
        (
            vec![(0, heard_done()), (1, Input::Stopped(Stop::Destroyed))],
            Phase::Installed,
        ),
        (
            vec![(0, Input::Stopped(Stop::Destroyed)), (1, heard_done())],
            Phase::Installed,
        ),
        // Saved and restored: nothing happened.
        (
            vec![(0, Input::Stopped(Stop::Aside)), (9, Input::Started(Boot::Installer))],
            Phase::Installing,
        ),
        // Done and still running.
        (
            vec![(0, heard_done()), (599, Input::Tick)],
            Phase::Finishing { since: at(0) },
        ),
        (vec![(0, heard_done()), (600, Input::Tick)], Phase::Lingering),
        (
            vec![
                (0, heard_done()),
                (600, Input::Tick),
                (9000, Input::Stopped(Stop::Guest)),
            ],
            Phase::Starting,
        ),
        // kexec into the result: the installed system itself says that it is up.
        (
            vec![(0, heard_done()), (3, Input::Server(Heard::Done { booted: true }))],
            Phase::Lingering,
        ),
        // It said that it failed, and is left on for its console; its own done later is the truth.
        (
            vec![(0, Input::Server(Heard::Failed("no disk".into())))],
            Phase::Failed {
                reason: "no disk".into(),
            },
        ),
        (
            vec![(0, Input::Server(Heard::Failed("no disk".into()))), (9, heard_done())],
            Phase::Finishing { since: at(9) },
        ),
        (
            vec![(0, Input::Server(Heard::Gone("disarmed".into())))],
            Phase::Failed {
                reason: "disarmed".into(),
            },
        ),
        // An admin asks it to power off in the end: it is not started again.
        (
            vec![
                (0, heard_done()),
                (1, Input::AskedOff),
                (2, Input::Stopped(Stop::Guest)),
            ],
            Phase::Installed,
        ),
        (
            vec![
                (0, Input::AskedOff),
                (2, Input::Stopped(Stop::Guest)),
                (3, heard_done()),
            ],
            Phase::Installed,
        ),
    ] {
        let (job, effects) = run(job(Phase::Installing, INSTALLER), &inputs);
        assert_eq!(job.phase, expected, "{inputs:?}");
        let starts = effects
            .iter()
            .filter(|effect| **effect == Effect::StartFromDisk)
            .count();
        assert_eq!(starts, usize::from(job.phase == Phase::Starting), "{inputs:?}");
        let autostarted = effects.contains(&Effect::Autostart);
        assert!(!autostarted || job.done, "{inputs:?}");
        assert!(autostarted || !job.phase.is_success(), "{inputs:?}");
        assert!(!effects.contains(&Effect::Launch), "{inputs:?}");
    }
}

#[test]
fn a_declared_reboot_goes_on_from_the_disk_once() {
    let declared = Job {
        reboots_midway: true,
        ..job(Phase::Installing, INSTALLER)
    };
    let first = [
        (0, Input::Stopped(Stop::Guest)),
        (1, open(true)),
        (2, Input::Started(Boot::Disk)),
    ];
    let (midway, effects) = run(declared.clone(), &first);
    assert_eq!(midway.phase, Phase::Midway { started: true });
    assert!(effects.contains(&Effect::StartFromDisk) && !effects.contains(&Effect::Autostart));
    let (finished, effects) = run(midway.clone(), &[(9, heard_done())]);
    assert_eq!(
        (finished.phase, effects.first()),
        (Phase::Installed, Some(&Effect::Autostart))
    );
    // A second stop without done is a failure.
    let (failed, effects) = run(midway, &[(9, Input::Stopped(Stop::Guest)), (40, open(true))]);
    assert!(matches!(failed.phase, Phase::Failed { .. }) && !effects.contains(&Effect::StartFromDisk));
    // Before partitioning a reboot is a failure too: there is nothing on the disk.
    let (failed, effects) = run(
        declared,
        &[(0, Input::Stopped(Stop::Guest)), (1, open(false)), (30, open(false))],
    );
    assert!(matches!(failed.phase, Phase::Failed { .. }) && !effects.contains(&Effect::StartFromDisk));
}

#[test]
fn what_never_ran_is_taken_back_and_a_reinstallation_is_kept() {
    let (fresh, effects) = run(Job::new(Proof::Report), &[(0, Input::Broken("pool full".into()))]);
    assert_eq!(
        fresh.phase,
        Phase::Refused {
            reason: "pool full".into()
        }
    );
    assert_eq!(effects, [Effect::Undo]);
    let again = Job {
        fresh: false,
        ..Job::new(Proof::Report)
    };
    let (again, effects) = run(again, &[(0, Input::Broken("pool full".into()))]);
    assert!(matches!(again.phase, Phase::Failed { .. }) && !effects.contains(&Effect::Undo));
    // Once it ran, nothing is taken back.
    let (ran, effects) = run(
        job(Phase::Starting, Power::Off),
        &[(0, Input::Broken("no memory".into()))],
    );
    assert!(matches!(ran.phase, Phase::Failed { .. }) && !effects.contains(&Effect::Undo));
    // And an admin who starts a finished one by hand has it installed.
    let finished = Job { done: true, ..ran };
    assert_eq!(
        run(finished, &[(0, Input::Started(Boot::Disk))]).0.phase,
        Phase::Installed
    );
}

#[test]
fn without_a_report_a_clean_stop_counts_and_with_a_disk_nothing_needs_to() {
    let unwatched = Job {
        proof: Proof::Stop,
        ..job(Phase::Installing, INSTALLER)
    };
    assert_eq!(
        run(unwatched.clone(), &[(0, Input::Stopped(Stop::Guest))]).0.phase,
        Phase::Starting
    );
    for (how, expected) in [
        (Stop::Crashed, Stop::Crashed.as_str()),
        (Stop::Killed, Stop::Killed.as_str()),
    ] {
        let (job, _) = run(unwatched.clone(), &[(0, Input::Stopped(how))]);
        assert_eq!(
            job.phase,
            Phase::Failed {
                reason: expected.into()
            }
        );
    }
    let (imported, effects) = run(
        Job::new(Proof::Disk),
        &[(0, Input::Prepared), (1, Input::Started(Boot::Disk))],
    );
    assert_eq!(imported.phase, Phase::Installed);
    assert!(!effects.contains(&Effect::Launch));
}

#[test]
fn a_restart_finds_every_phase_again() {
    let off = |how| Observed { power: Power::Off, how };
    let on = |boot| Observed {
        power: Power::On(boot),
        how: Stop::Unknown,
    };
    let finishing = Phase::Finishing { since: at(-5) };
    for (kept, observed, phase, first) in [
        (
            Phase::Preparing,
            off(Stop::Unknown),
            Phase::Preparing,
            Some(Effect::Prepare),
        ),
        (
            Phase::Preparing,
            on(Boot::Installer),
            Phase::Installing,
            Some(Effect::Remember),
        ),
        (
            Phase::Launching,
            off(Stop::Unknown),
            Phase::Unsure,
            Some(Effect::AskServer),
        ),
        (
            Phase::Launching,
            off(Stop::Guest),
            Phase::Unsure,
            Some(Effect::AskServer),
        ),
        (
            Phase::Launching,
            off(Stop::Destroyed),
            Phase::Cancelled,
            Some(Effect::Remember),
        ),
        (
            Phase::Launching,
            on(Boot::Installer),
            Phase::Installing,
            Some(Effect::Remember),
        ),
        (
            Phase::Installing,
            on(Boot::Installer),
            Phase::Installing,
            Some(Effect::AskServer),
        ),
        (
            Phase::Installing,
            off(Stop::Guest),
            stopped_at(0, Stop::Guest),
            Some(Effect::Remember),
        ),
        (
            Phase::Installing,
            off(Stop::Unknown),
            stopped_at(0, Stop::Unknown),
            Some(Effect::Remember),
        ),
        (
            Phase::Installing,
            off(Stop::Destroyed),
            Phase::Cancelled,
            Some(Effect::Remember),
        ),
        (
            Phase::Installing,
            off(Stop::Aside),
            Phase::Installing,
            Some(Effect::AskServer),
        ),
        (
            stopped_at(-20, Stop::Guest),
            off(Stop::Guest),
            stopped_at(-20, Stop::Guest),
            Some(Effect::AskServer),
        ),
        (
            finishing.clone(),
            on(Boot::Installer),
            finishing.clone(),
            Some(Effect::AskServer),
        ),
        (
            finishing.clone(),
            off(Stop::Guest),
            Phase::Starting,
            Some(Effect::Remember),
        ),
        (
            finishing.clone(),
            on(Boot::Disk),
            Phase::Installed,
            Some(Effect::Autostart),
        ),
        (
            finishing,
            off(Stop::Destroyed),
            Phase::Installed,
            Some(Effect::Autostart),
        ),
        (
            Phase::Lingering,
            off(Stop::Unknown),
            Phase::Starting,
            Some(Effect::Remember),
        ),
        (
            Phase::Starting,
            off(Stop::Guest),
            Phase::Starting,
            Some(Effect::StartFromDisk),
        ),
        (
            Phase::Starting,
            on(Boot::Disk),
            Phase::Installed,
            Some(Effect::Autostart),
        ),
        (
            Phase::Midway { started: false },
            off(Stop::Guest),
            Phase::Midway { started: false },
            Some(Effect::StartFromDisk),
        ),
        (
            Phase::Midway { started: true },
            off(Stop::Guest),
            stopped_at(0, Stop::Guest),
            Some(Effect::Remember),
        ),
        (Phase::Installed, off(Stop::Guest), Phase::Installed, None),
        (Phase::Cancelled, off(Stop::Destroyed), Phase::Cancelled, None),
    ] {
        let (job, effects) = resume(&job(kept.clone(), Power::Off), observed, at(0));
        assert_eq!(
            (&job.phase, effects.first()),
            (&phase, first.as_ref()),
            "{kept:?} {observed:?}"
        );
    }
}

#[test]
fn a_job_is_read_back_as_it_was_written() {
    for phase in [
        Phase::Preparing,
        Phase::Midway { started: true },
        stopped_at(3, Stop::Killed),
        Phase::Finishing { since: at(1) },
        Phase::Failed {
            reason: "a <b> & \"c\"".into(),
        },
    ] {
        let kept = job(phase, Power::Off);
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), kept, "{text}");
    }
}

/// A small generator with a seed, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// libvirt, the guest, the boot server, and a supervisor that may be killed between any two effects.
struct World {
    dice: Dice,
    now: Timestamp,
    kept: Option<Job>,
    power: Power,
    how: Stop,
    autostart: bool,
    launches: u32,
    partitioned: bool,
    done: bool,
    booted: bool,
    server_down: bool,
    admin_cut: bool,
    /// What it holds in memory: the job, and what is still to be done, each with the job as it was decided.
    memory: Option<(Job, Vec<(Job, Effect)>)>,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let first = Job {
            autostart: true,
            reboots_midway: dice.once_in(3),
            fresh: !dice.once_in(3),
            ..Job::new(Proof::Report)
        };
        Self {
            now: T0,
            kept: Some(first.clone()),
            power: Power::Off,
            how: Stop::Unknown,
            autostart: false,
            launches: 0,
            partitioned: false,
            done: false,
            booted: false,
            server_down: false,
            admin_cut: false,
            memory: Some((first.clone(), vec![(first, Effect::Prepare)])),
            log: Vec::new(),
            dice,
        }
    }

    fn feed(&mut self, input: Input) {
        if let Some((job, pending)) = &mut self.memory {
            let (next, effects) = step(job, &input, self.now);
            self.log.push(format!("{input:?} -> {:?} {effects:?}", next.phase));
            *job = next;
            pending.extend(effects.into_iter().map(|effect| (job.clone(), effect)));
        }
    }

    /// What the supervisor does on an event and on a reconnect: it looks, and compares.
    fn observe(&mut self) {
        let Some((job, _)) = &self.memory else { return };
        if job.power != self.power {
            match self.power {
                Power::On(boot) => self.feed(Input::Started(boot)),
                Power::Off => self.feed(Input::Stopped(self.how)),
            }
        }
    }

    fn heard(&self) -> Heard {
        if self.done {
            Heard::Done { booted: self.booted }
        } else {
            Heard::Open {
                partitioned: self.partitioned,
            }
        }
    }

    fn one_effect(&mut self) {
        let Some((_, pending)) = &mut self.memory else { return };
        if pending.is_empty() {
            return;
        }
        let (job, effect) = pending.remove(0);
        self.log.push(format!("  does {effect:?}"));
        match effect {
            Effect::Prepare => self.feed(Input::Prepared),
            Effect::Remember => self.kept = Some(job),
            Effect::Launch => {
                // The server refuses to start an installer on a disk that is being changed, and so do we.
                assert!(!self.done && !self.partitioned, "a second installation");
                assert_eq!(self.power, Power::Off, "an installer beside a running guest");
                assert_eq!(
                    self.kept.as_ref().unwrap().phase,
                    Phase::Launching,
                    "launched before it was written down"
                );
                self.launches += 1;
                self.power = INSTALLER;
                self.feed(Input::Launched);
            }
            Effect::StartFromDisk => {
                assert!(self.done || self.partitioned, "an empty disk is started");
                if self.power == Power::Off {
                    self.power = DISK;
                    self.how = Stop::Unknown;
                }
                self.observe();
            }
            Effect::Autostart => {
                assert!(self.done, "autostart before success");
                self.autostart = true;
            }
            Effect::AskServer if !self.server_down => {
                let heard = self.heard();
                self.feed(Input::Server(heard));
            }
            Effect::Undo => self.kept = None,
            Effect::AskServer | Effect::Release | Effect::Tell(_) => {}
        }
    }

    fn stop(&mut self, how: Stop) {
        if self.power != Power::Off {
            self.log.push(format!("world: stops, {how:?}"));
            // What runs from its disk is the admin's; whatever stops it there, it stays off.
            self.admin_cut |= self.power == DISK;
            self.power = Power::Off;
            self.how = how;
        }
    }

    fn random_turn(&mut self) {
        match self.dice.below(20) {
            0 if self.power == INSTALLER => self.partitioned = true,
            1 if self.power == INSTALLER && self.partitioned => self.done = true,
            2 if self.power == DISK && self.partitioned => self.done = true,
            3 if self.done => self.booted = true,
            4 | 5 => {
                // From the disk on, a reboot is no stop any more.
                if self.power == INSTALLER {
                    self.stop(Stop::Guest);
                }
            }
            6 if self.dice.once_in(6) => self.stop(Stop::Killed),
            7 if self.dice.once_in(6) => {
                self.admin_cut |= self.power != Power::Off;
                self.stop(Stop::Destroyed);
            }
            8 => self.how = Stop::Unknown,
            9 => self.server_down = !self.server_down,
            10 | 11 => {
                self.log.push("supervisor killed".into());
                self.memory = None;
            }
            12 | 13 => self.restart(),
            14 => self.now = self.now.plus(Duration::from_secs(self.dice.below(700))),
            15 => self.feed(Input::Tick),
            16 if !self.server_down => {
                let heard = self.heard();
                self.feed(Input::Server(heard));
            }
            17 => self.observe(),
            _ => self.one_effect(),
        }
    }

    fn restart(&mut self) {
        if self.memory.is_none()
            && let Some(kept) = &self.kept
        {
            let observed = Observed {
                power: self.power,
                how: self.how,
            };
            let (job, effects) = resume(kept, observed, self.now);
            self.log
                .push(format!("resumed {:?} as {:?} {effects:?}", kept.phase, job.phase));
            let pending = effects.into_iter().map(|effect| (job.clone(), effect)).collect();
            self.memory = Some((job, pending));
        }
    }

    /// From now on nothing goes wrong: where does it end?
    fn settle(&mut self) {
        self.server_down = false;
        self.restart();
        for _ in 0..40 {
            while self.memory.as_ref().is_some_and(|(_, pending)| !pending.is_empty()) {
                self.one_effect();
            }
            self.observe();
            let heard = self.heard();
            self.feed(Input::Server(heard));
            self.now = self.now.plus(Duration::from_secs(31));
            self.feed(Input::Tick);
        }
    }
}

#[test]
fn whatever_happens_no_guest_is_lost_installed_twice_or_started_too_early() {
    let (mut installed, mut failed, mut relaunched) = (0, 0, 0);
    for seed in 1..=20_000_u64 {
        let mut world = World::new(seed);
        let turns = 20 + world.dice.below(150);
        for _ in 0..turns {
            world.random_turn();
        }
        world.settle();
        let story = || format!("seed {seed}\n{}", world.log.join("\n"));
        let kept = world.kept.clone().unwrap_or_else(|| panic!("lost: {}", story()));
        let (job, _) = world.memory.clone().unwrap();
        assert_eq!(kept.phase, job.phase, "not written down: {}", story());
        let waits_for_guest = job.phase == Phase::Installing || matches!(job.phase, Phase::Midway { started: true });
        assert!(
            !job.phase.is_open() || job.phase == Phase::Lingering || (waits_for_guest && world.power != Power::Off),
            "{:?} never ends: {}",
            job.phase,
            story()
        );
        if world.done {
            let up = world.power == DISK || (job.phase == Phase::Lingering && world.power == INSTALLER);
            assert!(world.autostart && (up || world.admin_cut), "{}", story());
            installed += 1;
        } else {
            assert!(!world.autostart, "{}", story());
            failed += u32::from(matches!(job.phase, Phase::Failed { .. }));
        }
        relaunched += u32::from(world.launches > 1);
    }
    // The orders that matter did come up.
    assert!(
        installed > 1000 && failed > 100 && relaunched > 10,
        "{installed} {failed} {relaunched}"
    );
}
