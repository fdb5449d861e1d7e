//! Who gets the installer, who gets his own disk, and who gets nothing.

use super::*;
use crate::assets::{Asset, Assets, Media, SignatureFacts, VersionedArgs};
use crate::boot::{BootFile, Dialect, FoundBy, Ipxe, Script, paths};
use crate::config::{Config, Unknown};
use crate::install::{Act, Input, Installs, ServerKey, Stage, Token, TokenKind, step};
use crate::inventory::{Inventory, Row};
use crate::model::{ArmId, Distro, Firmware, Interface, Parent, Profile, Timestamp, Tree};

mod images;

const MAC: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
const HERS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);
const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn arm() -> Arm {
    Arm {
        id: ArmId("arm1".into()),
        system: "web1".parse().unwrap(),
        at: Timestamp(0),
        until: Timestamp(1_000_000),
        by: "root".into(),
    }
}

fn asset(path: &str) -> Asset {
    Asset {
        path: path.into(),
        size: 1,
        modified: 0,
    }
}

/// A server with one distro, one profile, and web1, whose address is leased; armed where `armed`.
fn world(dhcp: DhcpMode, armed: bool) -> World {
    let mut inventory = Inventory::default();
    inventory.put(Row::Distro(Arc::new(Distro {
        name: "lab".parse().unwrap(),
        arch: crate::model::Arch::X86_64,
        breed: "lab".into(),
        os_version: "1.0".into(),
        kernel: "boot/vmlinuz".into(),
        initrd: vec!["boot/initrd.img".into()],
        tree: Some(Tree {
            root: "/srv/lab".into(),
            in_place: true,
            iso: None,
            overlay: None,
        }),
        signature: Some("lab".parse().unwrap()),
        kernel_options: "console=ttyS0".parse().unwrap(),
        kernel_options_post: crate::model::Dict::new(),
        autoinstall_meta: crate::model::Dict::new(),
        boot_loaders: vec![],
        comment: String::new(),
        owners: vec![],
        extra: std::collections::BTreeMap::new(),
    })));
    inventory.put(Row::Profile(Arc::new(Profile {
        name: "lab".parse().unwrap(),
        parent: Parent::Distro("lab".parse().unwrap()),
        autoinstall: crate::model::Inherit::Inherit,
        autoinstall_meta: crate::model::Dict::new(),
        kernel_options: "!quiet extra=1".parse().unwrap(),
        kernel_options_post: crate::model::Dict::new(),
        name_servers: crate::model::Inherit::Inherit,
        name_servers_search: crate::model::Inherit::Inherit,
        proxy: crate::model::Inherit::Inherit,
        boot_loaders: crate::model::Inherit::Inherit,
        enable_menu: crate::model::Inherit::Inherit,
        virt: crate::model::Virt::default(),
        comment: String::new(),
        owners: vec![],
        extra: std::collections::BTreeMap::new(),
    })));
    let interface = Interface {
        mac_address: Some(MAC),
        ..Interface::default()
    };
    inventory.put(Row::System(Arc::new(System {
        name: "web1".parse().unwrap(),
        profile: "lab".parse().ok(),
        image: None,
        hostname: Some("web1.lab.test".parse().unwrap()),
        gateway: None,
        interfaces: [("eth0".parse().unwrap(), Box::new(interface))].into(),
        autoinstall: crate::model::Inherit::Inherit,
        autoinstall_meta: crate::model::Dict::new(),
        kernel_options: crate::model::Dict::new(),
        kernel_options_post: crate::model::Dict::new(),
        name_servers: crate::model::Inherit::Inherit,
        name_servers_search: crate::model::Inherit::Inherit,
        proxy: crate::model::Inherit::Inherit,
        boot_loaders: crate::model::Inherit::Inherit,
        virt: crate::model::Virt::default(),
        status: String::new(),
        comment: String::new(),
        owners: vec![],
        extra: std::collections::BTreeMap::new(),
    })));
    if armed {
        inventory.put(Row::Arm(Arc::new(arm())));
    }
    let mut assets = Assets::default();
    for name in ["undionly.kpxe", "snponly.efi"] {
        assets.loaders.insert(name.into(), Arc::new(asset(name)));
    }
    assets.media.insert(
        "lab".parse().unwrap(),
        Arc::new(Media {
            kernel: Ok(asset("/srv/lab/boot/vmlinuz")),
            initrd: vec![Ok(asset("/srv/lab/boot/initrd.img"))],
            tree: Some(Ok("/srv/lab".into())),
        }),
    );
    assets.signatures.insert(
        "lab".parse().unwrap(),
        Arc::new(SignatureFacts {
            kernel_args: vec![VersionedArgs {
                when: "*".into(),
                args: "lab.answer={answer_url}/answer console=tty0 host={hostname}".into(),
                initrd_args: vec![],
            }],
            autoinstall: vec![("*".into(), "lab/answer".into())],
            answer_file: "answer".into(),
            ..SignatureFacts::default()
        }),
    );
    let mut installs = Installs::default();
    installs.holders.insert(HERS, MAC);
    installs.holders.insert(OTHER, Mac::new([0x52, 0x54, 0, 0, 0, 0x66]));
    World {
        config: Arc::new(Config {
            dhcp,
            ..Config::default()
        }),
        inventory: Arc::new(inventory),
        installs: Arc::new(installs),
        assets: Arc::new(assets),
        key: Arc::new(ServerKey::new([1; 32])),
        now: Timestamp(1000),
    }
}

fn facts(peer: Ipv4Addr) -> Facts {
    Facts {
        mac: Some(MAC),
        found_by: FoundBy::Path,
        peer: Some(peer),
        ..Facts::nobody(US)
    }
}

fn ask(world: &World, facts: Facts, ask: Ask) -> Decision {
    decide(world, &Request { facts, ask })
}

fn script(world: &World, peer: Ipv4Addr) -> Decision {
    ask(world, facts(peer), Ask::Script(Dialect::Ipxe))
}

fn is_install(decision: &Decision) -> bool {
    matches!(&decision.answer, Answer::Script(script) if matches!(**script, Script::Launch(_)))
}

fn is_local(decision: &Decision) -> bool {
    matches!(&decision.answer, Answer::Script(script) if matches!(**script, Script::Local { .. }))
}

/// The world after the effects of a decision, `millis` later.
fn after(mut world: World, decision: &Decision, millis: i64) -> World {
    let mut installs = (*world.installs).clone();
    for effect in &decision.effects {
        if let Effect::Install {
            act: Act { arm, input },
            ..
        } = effect
        {
            let before = installs.by_system.get(&arm.system).cloned();
            if let Some(next) = step(arm, before.as_deref(), input, world.now) {
                installs.put(next);
            }
        }
    }
    world.installs = Arc::new(installs);
    world.now = Timestamp(world.now.0.saturating_add(millis));
    world
}

fn hear(world: World, input: Input, millis: i64) -> World {
    let effects = vec![Effect::Install {
        when: crate::boot::When::After,
        act: Act { arm: arm(), input },
    }];
    let decision = Decision {
        answer: Answer::Accepted,
        trace: Trace::default(),
        effects,
    };
    after(world, &decision, millis)
}

fn token(kind: TokenKind) -> String {
    Token::derive(&ServerKey::new([1; 32]), &ArmId("arm1".into()), kind)
        .reveal()
        .to_owned()
}

fn answers(world: &World, peer: Ipv4Addr, token: String) -> Decision {
    ask(
        world,
        Facts {
            mac: None,
            ..facts(peer)
        },
        Ask::AnswerFile {
            token,
            file: "answer".into(),
        },
    )
}

fn verdict(decision: &Decision) -> &str {
    decision.trace.verdict().map_or("", |rule| &rule.name)
}

#[test]
fn a_seed_folder_opens_its_own_files_and_no_others() {
    let mut world = world(DhcpMode::Authoritative, true);
    let assets = Arc::make_mut(&mut world.assets);
    let lab = assets
        .signatures
        .get_mut(&"lab".parse::<crate::model::Name>().unwrap())
        .unwrap();
    let lab = Arc::make_mut(lab);
    lab.kernel_args = vec![VersionedArgs {
        when: "*".into(),
        args: "url={iso} root=live:{rootfs} s={answer_url}/".into(),
        initrd_args: vec![],
    }];
    lab.answer_files = vec![("meta-data".into(), "lab/meta-data".into())];
    let stopped = script(&world, HERS);
    assert!(is_local(&stopped), "{stopped:?}");
    assert!(
        format!("{:?}", stopped.trace).contains("loads the whole iso, and nothing names it"),
        "{:?}",
        stopped.trace
    );
    let mut inventory = (*world.inventory).clone();
    let mut lab = (**inventory.distro("lab").unwrap()).clone();
    lab.autoinstall_meta = "iso=x/y.iso rootfs=http://192.0.2.9/r.img".parse().unwrap();
    inventory.put(Row::Distro(Arc::new(lab)));
    world.inventory = Arc::new(inventory);
    let script = script(&world, HERS);
    let Answer::Script(launch) = &script.answer else {
        panic!("{script:?}")
    };
    let Script::Launch(launch) = &**launch else {
        panic!("{launch:?}")
    };
    let value = |key: &str| {
        let mut options = launch.options.iter();
        let entry = options.find(|entry| entry.key == key).unwrap();
        entry.values.clone().unwrap().join(" ")
    };
    assert_eq!(value("url"), "http://192.0.2.1/d/lab/x/y.iso");
    assert_eq!(value("root"), "live:http://192.0.2.9/r.img");
    assert!(value("s").ends_with('/') && value("s").contains("/i/"));
    let world = after(world.clone(), &script, 10);
    let ask = |file: &str| {
        let token = token(TokenKind::Install);
        let file = file.to_owned();
        let facts = Facts {
            mac: None,
            ..facts(HERS)
        };
        ask(&world, facts, Ask::AnswerFile { token, file })
    };
    for (file, template) in [("answer", "lab/answer"), ("meta-data", "lab/meta-data")] {
        let decision = ask(file);
        let Answer::AnswerFile(answer) = &decision.answer else {
            panic!("{file}: {:?}", decision.trace)
        };
        assert_eq!((answer.file.as_str(), answer.template.value.as_str()), (file, template));
    }
    for file in ["user-data", "lab/meta-data", ""] {
        assert_eq!(verdict(&ask(file)), "no such answer file", "{file}");
    }
}

#[test]
fn each_firmware_gets_its_loader() {
    let world = world(DhcpMode::Authoritative, true);
    let with = |firmware, ipxe| Facts {
        firmware: Some(firmware),
        ipxe,
        peer: None,
        ..facts(HERS)
    };
    let url = |path: &str| format!("http://192.0.2.1/{path}");
    for (firmware, ipxe, expected) in [
        (
            Firmware::Bios,
            None,
            BootFile::Tftp {
                file: "undionly.kpxe".into(),
                server: US,
            },
        ),
        (
            Firmware::UefiX64,
            None,
            BootFile::Tftp {
                file: "snponly.efi".into(),
                server: US,
            },
        ),
        (Firmware::HttpX64, None, BootFile::Url(url("l/snponly.efi"))),
        (
            Firmware::Bios,
            Some(Ipxe {
                http: true,
                ..Ipxe::default()
            }),
            BootFile::Url(url("b/52-54-00-00-00-01/ipxe")),
        ),
        (
            Firmware::Bios,
            Some(Ipxe::default()),
            BootFile::Tftp {
                file: "undionly.kpxe".into(),
                server: US,
            },
        ),
        (Firmware::UefiArm64, None, BootFile::None),
    ] {
        let decision = ask(&world, with(firmware, ipxe), Ask::BootFile);
        assert!(
            matches!(&decision.answer, Answer::BootFile(file) if *file == expected),
            "{firmware}: {decision:?}"
        );
        assert!(decision.effects.is_empty());
    }
}

#[test]
fn a_proxy_disturbs_no_stranger() {
    let stranger = Facts {
        mac: Some(Mac::new([2, 0, 0, 0, 0, 9])),
        firmware: Some(Firmware::Bios),
        ..facts(HERS)
    };
    let proxy = world(DhcpMode::Proxy, true);
    assert!(matches!(
        ask(&proxy, stranger.clone(), Ask::BootFile).answer,
        Answer::Silence
    ));
    let server = world(DhcpMode::Authoritative, true);
    assert!(matches!(
        ask(&server, stranger.clone(), Ask::BootFile).answer,
        Answer::BootFile(BootFile::Tftp { .. })
    ));
    assert!(is_local(&ask(&server, stranger.clone(), Ask::Script(Dialect::Ipxe))));
    let mut menu = server;
    menu.config = Arc::new(Config {
        unknown: Unknown::Menu,
        ..(*menu.config).clone()
    });
    let decision = ask(&menu, stranger, Ask::Script(Dialect::Ipxe));
    assert!(matches!(decision.answer, Answer::Script(script) if matches!(*script, Script::Menu(_))));
}

#[test]
fn only_the_armed_machine_at_its_own_address_is_installed() {
    assert!(is_local(&script(&world(DhcpMode::Authoritative, false), HERS)));
    let armed = world(DhcpMode::Authoritative, true);
    assert!(is_install(&script(&armed, HERS)));
    let thief = script(&armed, OTHER);
    assert!(is_local(&thief) && thief.effects.is_empty());
    assert_eq!(verdict(&thief), "wrong address");
    let mut late = armed.clone();
    late.now = Timestamp(1_000_000);
    assert!(is_local(&script(&late, HERS)));
}

#[test]
fn in_proxy_mode_the_neighbour_entry_decides() {
    let world = world(DhcpMode::Proxy, true);
    assert!(is_local(&script(&world, HERS)));
    let request = Facts {
        neighbour: Some(MAC),
        ..facts(HERS)
    };
    assert!(is_install(&ask(&world, request, Ask::Script(Dialect::Ipxe))));
}

#[test]
fn a_fixed_address_of_the_record_needs_the_machines_own_neighbour_entry() {
    let fixed = Ipv4Addr::new(192, 0, 2, 77);
    let mut world = world(DhcpMode::Authoritative, true);
    let mut inventory = (*world.inventory).clone();
    let mut system = (**inventory.system("web1").unwrap()).clone();
    let bond = Interface {
        ip_address: Some(fixed),
        is_static: true,
        interface_type: Some(crate::model::InterfaceType::Bond),
        ..Interface::default()
    };
    system.interfaces.insert("bond0".parse().unwrap(), Box::new(bond));
    inventory.put(Row::System(Arc::new(system)));
    world.inventory = Arc::new(inventory);
    let from = |peer, neighbour| {
        let request = Facts {
            neighbour,
            ..facts(peer)
        };
        ask(&world, request, Ask::Script(Dialect::Ipxe))
    };
    let foreign = Some(Mac::new([0x52, 0x54, 0, 0, 0, 0x66]));
    assert!(is_install(&from(fixed, Some(MAC))));
    for (peer, neighbour) in [
        (fixed, None),
        (fixed, foreign),
        (Ipv4Addr::new(192, 0, 2, 78), Some(MAC)),
        (OTHER, Some(MAC)),
    ] {
        assert!(is_local(&from(peer, neighbour)), "{peer} {neighbour:?}");
    }
}

#[test]
fn the_command_line_is_the_familys_then_the_layers() {
    let decision = script(&world(DhcpMode::Authoritative, true), HERS);
    let Answer::Script(script) = decision.answer else {
        panic!()
    };
    let Script::Launch(launch) = *script else { panic!() };
    let shown: Vec<String> = launch
        .options
        .iter()
        .map(|entry| match &entry.values {
            Some(values) => format!("{}={} [{}]", entry.key, values.join(","), entry.layer),
            None => format!("{} [{}]", entry.key, entry.layer),
        })
        .collect();
    let answer = format!(
        "lab.answer=http://192.0.2.1/i/{}/answer [signature lab]",
        token(TokenKind::Install)
    );
    assert_eq!(
        shown,
        [
            answer.as_str(),
            "host=web1 [signature lab]",
            "console=ttyS0 [distro lab]",
            "extra=1 [profile lab]"
        ]
    );
    assert_eq!(launch.kernel, "http://192.0.2.1/d/lab/boot/vmlinuz");
    assert_eq!(launch.initrd, ["http://192.0.2.1/d/lab/boot/initrd.img"]);
}

#[test]
fn a_missing_kernel_degrades_to_the_own_disk() {
    let mut world = world(DhcpMode::Authoritative, true);
    let mut assets = (*world.assets).clone();
    assets.media.insert(
        "lab".parse().unwrap(),
        Arc::new(Media {
            kernel: Err("gone".into()),
            initrd: vec![],
            tree: Some(Ok("/srv/lab".into())),
        }),
    );
    world.assets = Arc::new(assets);
    let decision = script(&world, HERS);
    assert!(is_local(&decision) && decision.effects.is_empty());
    assert_eq!(verdict(&decision), "cannot install");
}

#[test]
fn a_token_opens_one_installation_from_one_address_until_done() {
    let armed = world(DhcpMode::Authoritative, true);
    let before = answers(&armed, HERS, token(TokenKind::Install));
    assert!(matches!(before.answer, Answer::NotFound), "nothing was handed out yet");
    let claimed = after(armed.clone(), &script(&armed, HERS), 10);
    let good = answers(&claimed, HERS, token(TokenKind::Install));
    assert!(matches!(good.answer, Answer::AnswerFile(_)), "{:?}", good.trace);
    for (peer, text, cause) in [
        (OTHER, token(TokenKind::Install), "wrong address"),
        (HERS, token(TokenKind::Report), "unknown token"),
        (HERS, "arm1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".into(), "unknown token"),
        (HERS, "x".into(), "unknown token"),
    ] {
        let refused = answers(&claimed, peer, text);
        assert!(matches!(refused.answer, Answer::NotFound) && refused.effects.is_empty());
        assert_eq!(verdict(&refused), cause);
    }
    let mut expired = claimed.clone();
    expired.now = Timestamp(1_000_001);
    assert_eq!(verdict(&answers(&expired, HERS, token(TokenKind::Install))), "expired");
    let mut disarmed = claimed.clone();
    let mut inventory = (*disarmed.inventory).clone();
    inventory.disarm("web1");
    disarmed.inventory = Arc::new(inventory);
    assert_eq!(
        verdict(&answers(&disarmed, HERS, token(TokenKind::Install))),
        "disarmed"
    );
    let done = after(claimed.clone(), &report(&claimed, "done"), 10);
    assert_eq!(verdict(&answers(&done, HERS, token(TokenKind::Install))), "done");
    assert!(is_local(&script(&done, HERS)));
}

fn report(world: &World, stage: &str) -> Decision {
    let ask_for = Ask::Report {
        token: token(TokenKind::Report),
        stage: stage.into(),
        detail: None,
    };
    ask(
        world,
        Facts {
            mac: None,
            ..facts(OTHER)
        },
        ask_for,
    )
}

#[test]
fn power_cuts() {
    let armed = world(DhcpMode::Authoritative, true);
    // Before the kernel, and after the answer file: the installer again.
    let claimed = after(armed.clone(), &script(&armed, HERS), 60_000);
    assert!(is_install(&script(&claimed, HERS)));
    let fetched = after(
        claimed.clone(),
        &answers(&claimed, HERS, token(TokenKind::Install)),
        60_000,
    );
    assert_eq!(fetched.installs.by_system["web1"].state, State::Installing);
    assert!(is_install(&script(&fetched, HERS)));
    // In partitioning: held, and held for ever.
    let partitioned = after(fetched.clone(), &report(&fetched, "partitioning"), 60_000);
    let again = script(&partitioned, HERS);
    assert!(is_local(&again));
    let held = after(partitioned, &again, 10);
    assert_eq!(held.installs.by_system["web1"].state, State::Held);
    assert!(is_local(&script(&held, HERS)));
    // A done that arrives late still tells the truth.
    let done = after(held.clone(), &report(&held, "done"), 10);
    assert_eq!(done.installs.by_system["web1"].state, State::Installed);
    // The installer that fails, and the one that never gets anywhere.
    let failed = after(fetched.clone(), &report(&fetched, "failed"), 10);
    assert!(is_local(&script(&failed, HERS)));
    let mut tried = armed;
    for attempt in 0..4 {
        let decision = script(&tried, HERS);
        assert!(is_install(&decision), "attempt {attempt}");
        tried = after(tried, &decision, 60_000);
    }
    assert!(is_local(&script(&tried, HERS)));
}

#[test]
fn a_script_fetched_by_somebody_else_ends_no_installation() {
    let armed = world(DhcpMode::Authoritative, true);
    let claimed = after(armed.clone(), &script(&armed, HERS), 10);
    let partitioned = hear(claimed, Input::Reached(Stage::Partitioning), 60_000);
    let curious = script(&partitioned, OTHER);
    assert!(is_local(&curious));
    assert_eq!((verdict(&curious), curious.effects.len()), ("wrong address", 0));
    assert_eq!(script(&partitioned, HERS).effects.len(), 1);
}

#[test]
fn a_clock_that_went_back_revives_no_arming() {
    let mut back = world(DhcpMode::Authoritative, true);
    let mut inventory = (*back.inventory).clone();
    inventory.put(Row::Arm(Arc::new(Arm {
        at: Timestamp(500_000_000),
        until: Timestamp(501_000_000),
        ..arm()
    })));
    back.inventory = Arc::new(inventory);
    back.now = Timestamp(500_000_000 - 299_000);
    assert!(
        is_install(&script(&back, HERS)),
        "two clocks of one host may differ a little"
    );
    let claimed = after(back.clone(), &script(&back, HERS), 10);
    back.now = Timestamp(1000);
    let refused = script(&back, HERS);
    assert!(is_local(&refused) && refused.effects.is_empty());
    let mut claimed_back = claimed;
    claimed_back.now = Timestamp(1000);
    assert!(is_local(&script(&claimed_back, HERS)));
    assert_eq!(
        verdict(&answers(&claimed_back, HERS, token(TokenKind::Install))),
        "expired"
    );
}

#[test]
fn a_decision_stands_while_its_arming_does() {
    let armed = world(DhcpMode::Authoritative, true);
    let effects = script(&armed, HERS).effects;
    assert!(still_stands(&armed, &effects));
    let changed = |change: &dyn Fn(&mut Inventory)| {
        let mut inventory = (*armed.inventory).clone();
        change(&mut inventory);
        World {
            inventory: Arc::new(inventory),
            ..armed.clone()
        }
    };
    assert!(!still_stands(&changed(&|inventory| inventory.disarm("web1")), &effects));
    let again = changed(&|inventory| {
        inventory.put(Row::Arm(Arc::new(Arm {
            id: ArmId("arm2".into()),
            ..arm()
        })));
    });
    assert!(!still_stands(&again, &effects));
    assert!(!still_stands(
        &World {
            now: Timestamp(1_000_000),
            ..armed
        },
        &effects
    ));
}

#[test]
fn fetching_files_means_stages() {
    let armed = world(DhcpMode::Authoritative, true);
    let claimed = after(armed.clone(), &script(&armed, HERS), 10);
    let fetch = |path: &str| Ask::TreeFile {
        distro: "lab".parse().unwrap(),
        path: path.into(),
    };
    let kernel = ask(&claimed, facts(HERS), fetch("boot/vmlinuz"));
    let seen = after(claimed, &kernel, 10);
    assert_eq!(seen.installs.by_system["web1"].stage, Some(Stage::Kernel));
    assert!(
        ask(&seen, facts(HERS), fetch("boot/vmlinuz")).effects.is_empty(),
        "noted once"
    );
    let seen = hear(seen, Input::Reached(Stage::Packages), 10);
    assert!(
        ask(&seen, facts(HERS), fetch("boot/initrd.img")).effects.is_empty(),
        "never backwards"
    );
}

#[test]
fn what_nobody_serves_is_not_found() {
    let world = world(DhcpMode::Authoritative, false);
    for path in ["nothing.efi", "d/none/x", "../../etc/passwd", "b/zz/ipxe", "", "i/x/y"] {
        let decision = ask(&world, facts(HERS), paths::parse(path).ask);
        assert!(matches!(decision.answer, Answer::NotFound), "{path}: {decision:?}");
    }
}
