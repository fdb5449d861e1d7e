//! Answer files: families x {dhcp, static}, against golden texts and validators.

use super::embedded::scripts_of;
use super::fixture::{
    BESIDE, BOND, DHCP, FAMILIES, Family, STACK, STATIC, VLAN, answer, assets, defaults, with_snippet, with_template,
    world,
};
use super::{golden, validators};
use cordwainer::inventory::{Layer, Sourced};
use cordwainer::model::Defaults;
use cordwainer::render::{self, ErrorKind};

fn ways() -> [(&'static str, &'static str, &'static str); 6] {
    [
        ("dhcp", DHCP, ""),
        (
            "static",
            STATIC,
            "disk=/dev/vda packages=\"vim-minimal tmux\" after_install=poweroff",
        ),
        ("bond", BOND, ""),
        ("vlan", VLAN, ""),
        ("stack", STACK, ""),
        (
            "extras",
            DHCP,
            "users=\"alice bob:wheel:adm\" repos=\"local=http://192.0.2.9/r names http://192.0.2.9/s\" \
             repository=http://192.0.2.8/pub/BaseOS/x86_64/os proxy=http://192.0.2.9:3128 \
             post_commands=\"systemctl enable --now 'x y'\" post_commands=\"echo $HOME\" packages=vim",
        ),
    ]
}

/// Every shipped answer file, each way: (family, title, text).
pub fn rendered() -> Vec<(Family, String, String)> {
    of(&FAMILIES)
}

/// The files beside the main ones, each way.
pub fn rendered_beside() -> Vec<(Family, String, String)> {
    of(&BESIDE)
}

fn of(families: &[Family]) -> Vec<(Family, String, String)> {
    let mut all = Vec::new();
    let world = world(defaults(), assets());
    for family in families.iter().copied() {
        for (way, interface, meta) in ways() {
            let text = render::answer_file(&answer(family, interface, meta), &world)
                .unwrap_or_else(|error| panic!("{} {way}: {error}", family.title));
            all.push((family, format!("{}-{way}", family.title), text));
        }
    }
    all
}

#[test]
fn every_answer_file_is_the_golden_one() {
    for (family, name, text) in rendered().into_iter().chain(rendered_beside()) {
        // One version of each format shows what bonds, bridges and VLANs look like; all of them are validated.
        let shows = [
            "el7",
            "el9",
            "debian12-netboot",
            "ubuntu24",
            "sles15",
            "leap16",
            "fcos44",
            "alpine322",
        ]
        .contains(&family.title);
        if shows || name.ends_with("-dhcp") || name.ends_with("-static") {
            golden::check(&format!("answers/{name}"), &text);
        }
    }
}

#[test]
fn every_shipped_template_is_tried_here() {
    let tried: Vec<&str> = FAMILIES.iter().chain(&BESIDE).map(|family| family.template).collect();
    let assets = assets();
    for name in assets.templates.keys() {
        assert!(tried.contains(&name.as_str()), "{name} is in no test");
    }
    // Every shipped snippet renders for every breed, also those that only an admin's template would call.
    for family in FAMILIES {
        for name in assets.snippets.keys() {
            let world = world(
                defaults(),
                with_template(assets.clone(), "t", &format!("{{{{ snippet('{name}') }}}}")),
            );
            let mut asked = answer(family, DHCP, "");
            if matches!(name.as_str(), "debian_early" | "debian_partman" | "debian_late")
                && !family.template.starts_with("debian")
            {
                continue;
            }
            asked.template.value = "t".into();
            render::answer_file(&asked, &world).unwrap_or_else(|error| panic!("{name} for {}: {error}", family.title));
        }
    }
}

#[test]
fn installers_would_take_them() {
    let (mut kickstarts, mut preseeds, mut shells) = (Vec::new(), Vec::new(), Vec::new());
    for (family, name, text) in rendered() {
        let versions: &[&str] = match family.title {
            "el7" => &["RHEL7"],
            "el8" => &["RHEL8"],
            "el9" => &["RHEL9"],
            "el10" => &["RHEL10"],
            "fedora41" => &["F41", "F42", "F43", "F44"],
            _ => &[],
        };
        for version in versions {
            kickstarts.push((*version, name.clone(), text.clone()));
            // What %pre includes later is judged with it: bonds and bridges.
            if let Some(lines) = included(&text) {
                assert!(text.contains("\n%include /tmp/pre_install_network_config\n"), "{name}");
                kickstarts.push((*version, format!("{name}-included"), lines));
            }
        }
        if family.template.starts_with("debian") {
            preseeds.push((name.clone(), text.clone()));
        }
        let scripts = scripts_of(&text);
        let expected = match family.template {
            "lab/answer" | "coreos/config.ign" => 0,
            "alpine/apkovl" => 2,
            "esxi/ks.cfg" => 3,
            name if name.starts_with("redhat/") => 5,
            _ => 3,
        };
        assert_eq!(scripts.len(), expected, "{name}");
        shells.extend(
            scripts
                .into_iter()
                .enumerate()
                .map(|(place, script)| (format!("{name}-{place}"), script)),
        );
    }
    assert!(kickstarts.iter().any(|(_, name, _)| name == "el9-bond-included"));
    validators::kickstarts(&kickstarts);
    validators::preseeds(&preseeds);
    validators::shells(&shells);
}

/// The lines that %pre writes for %include, with the cards called as they are in the record.
fn included(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("cat > /tmp/pre_install_network_config << END\n")?;
    let (lines, _) = rest.split_once("\nEND\n")?;
    let mut out = String::new();
    for (place, part) in lines.split("$(nic_of ").enumerate() {
        if place == 0 {
            out.push_str(part);
            continue;
        }
        let (called, rest) = part.split_once(')').unwrap();
        out.push_str(called.split_once(' ').unwrap().1);
        out.push_str(rest);
    }
    Some(format!("{out}\n"))
}

#[test]
fn each_reports_its_stages_and_opens_a_login() {
    let world = world(defaults(), assets());
    for (family, name, text) in rendered() {
        // What their installers have no hook for is inferred, or not known.
        let words: &[&str] = match family.template {
            "lab/answer" | "coreos/config.ign" | "esxi/ks.cfg" => &[],
            "alpine/apkovl" | "ubuntu/user-data" => &["started", "partitioning", "finishing", "done", "failed"],
            _ => &["started", "partitioning", "packages", "finishing", "done", "failed"],
        };
        for word in words {
            assert!(text.contains(&format!("report {word}")), "{name} never reports {word}");
        }
        assert!(render::leaves_login(&answer(family, DHCP, ""), &world, &text), "{name}");
    }
}

#[test]
fn without_hash_and_key_nobody_could_log_in() {
    let world = world(Defaults::default(), assets());
    for family in FAMILIES {
        let asked = answer(family, DHCP, "");
        let text = render::answer_file(&asked, &world).unwrap();
        assert!(!render::leaves_login(&asked, &world, &text), "{}", family.title);
        // The admin may open it for one machine.
        let keyed = answer(family, DHCP, "ssh_authorized_keys=\"ssh-ed25519 AAAAC3 a@b\"");
        let text = render::answer_file(&keyed, &world).unwrap();
        assert!(render::leaves_login(&keyed, &world, &text), "{}", family.title);
        if family.template.starts_with("redhat") {
            assert!(text.contains("\nrootpw --lock\n"), "{}", family.title);
        }
    }
}

fn error_of(text: &str) -> render::TemplateError {
    let assets = with_snippet(with_template(assets(), "t", text), "loop", "{{ snippet('loop') }}");
    let mut asked = answer(FAMILIES[2], DHCP, "site_password=hunter2");
    asked.template.value = "t".into();
    render::answer_file(&asked, &world(defaults(), assets)).unwrap_err()
}

#[test]
fn an_error_names_template_line_and_the_nearest_name() {
    let error = error_of("a\nb {{ hostnam }}\n");
    assert_eq!((error.template.as_str(), error.line), ("t", 2));
    assert_eq!(
        error.to_string(),
        "t:2: `hostnam` is not defined; did you mean `hostname`?"
    );
    assert!(matches!(
        error_of("{{ frobnicate_it }}").kind,
        ErrorKind::Undefined { nearest: None, .. }
    ));
    assert_eq!(
        error_of("\n\n{{ snippet('no_such') }}")
            .to_string()
            .split(" among")
            .next(),
        Some("t:3: there is no snippet `no_such`")
    );
    assert_eq!(error_of("{% if %}").kind, ErrorKind::Syntax);
    assert!(matches!(error_of("{{ 1 | nofilter }}").kind, ErrorKind::Unknown(_)));
    assert!(matches!(
        error_of("{{ hostname.nomethod() }}").kind,
        ErrorKind::Unknown(_)
    ));
    assert_eq!(error_of("{{ '%end' | package }}").kind, ErrorKind::Value);
}

#[test]
fn an_error_in_a_snippet_names_the_snippet() {
    let assets = with_snippet(
        with_template(assets(), "t", "\n{{ snippet('s') }}"),
        "s",
        "x\n\n{{ hostnam }}",
    );
    for text in ["\n{{ snippet('s') }}", "\n{% include 's' %}"] {
        let mut asked = answer(FAMILIES[2], DHCP, "");
        asked.template.value = "t".into();
        let error =
            render::answer_file(&asked, &world(defaults(), with_template(assets.clone(), "t", text))).unwrap_err();
        assert_eq!(error.line, 3, "{error}");
        assert!(error.template.ends_with('s'), "{error}");
        assert!(error.to_string().contains("did you mean `hostname`?"), "{error}");
    }
}

#[test]
fn an_error_never_shows_a_value() {
    for text in [
        "{{ root_password_hash.nope() }}",
        "{{ root_password_hash + 1 }}",
        "{{ site_password | int }}",
        "{{ snippet(root_password_hash) }}",
        "{% include site_password %}",
        "{{ site_password.nope.deeper }}",
        "{{ answer_url | nofilter }}",
        "{{ report_url[no_such] }}",
    ] {
        let error = error_of(text);
        let said = format!("{error} {error:?}");
        for secret in ["$6$", "hunter2", "installtoken", "reporttoken"] {
            assert!(!said.contains(secret), "{text} says {said}");
        }
    }
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    for text in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{{ snippet('loop') }}",
        "{% include 't' %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 'x' * 2000000 }}",
        "{% set x = 'x' * 100000 %}{% for a in range(100) %}{{ x }}{% endfor %}",
    ] {
        assert_eq!(error_of(text).kind, ErrorKind::TooMuch, "{text}");
    }
}

#[test]
fn a_missing_template_is_named() {
    let mut asked = answer(FAMILIES[2], DHCP, "");
    asked.template = Sourced {
        value: "redhat/el99.ks".into(),
        layer: Layer::Settings,
    };
    let error = render::answer_file(&asked, &world(defaults(), assets())).unwrap_err();
    assert_eq!(
        (error.template.as_str(), error.line, error.kind),
        ("redhat/el99.ks", 0, ErrorKind::Missing)
    );
}

#[test]
fn snippets_are_looked_up_from_the_machine_to_everybody() {
    let order = ["per_system/s/web1", "per_profile/s/base", "per_distro/s/el9", "s"];
    for first in 0..order.len() {
        let mut assets = with_template(assets(), "t", "{{ snippet('s') }}");
        for name in &order[first..] {
            assets = with_snippet(assets, name, name);
        }
        let mut asked = answer(FAMILIES[2], DHCP, "");
        asked.template.value = "t".into();
        assert_eq!(
            render::answer_file(&asked, &world(defaults(), assets)).unwrap(),
            order[first]
        );
    }
}

#[test]
fn machines_share_what_is_compiled_and_nobody_sees_anothers_snippet() {
    let texts = [
        "{% include 's' %}{% if true %}{% include 'snippets/s' %}{% endif %}",
        "{% macro m() %}{{ snippet('s') }}{% endmacro %}{{ m() }}{{ snippet('calls') }}",
        "{% from 'library' import m %}{{ m() }}",
    ];
    let mut assets = with_template(assets(), "library", "{% macro m() %}{{ snippet('s') }}{% endmacro %}");
    for (name, text) in [
        ("s", "all"),
        ("calls", "{{ snippet('s') }}"),
        ("per_system/s/web1", "own {{ name }}"),
    ] {
        assets = with_snippet(assets, name, text);
    }
    for (number, text) in texts.iter().enumerate() {
        assets = with_template(assets, &format!("t{number}"), text);
    }
    let mut web1 = answer(FAMILIES[2], DHCP, "");
    let mut web2 = web1.clone();
    let mut system = cordwainer::model::System::clone(web2.resolved.system.as_ref().unwrap());
    system.name = "web2".parse().unwrap();
    web2.resolved.system = Some(std::sync::Arc::new(system));
    let world = world(defaults(), assets);
    let mut render = |number: usize| {
        [&mut web1, &mut web2].map(|asked| {
            asked.template.value = format!("t{number}");
            render::answer_file(asked, &world).unwrap()
        })
    };
    // Twice, since the first time compiles.
    for _ in 0..2 {
        assert_eq!(render(0), ["own web1all", "allall"]);
        assert_eq!(render(1), ["own web1own web1", "allall"]);
        assert_eq!(render(2), ["own web1", "all"]);
    }
}

#[test]
fn the_steps_of_all_snippets_are_counted_together() {
    let busy = with_snippet(assets(), "busy", "{% for a in range(4000) %}{% endfor %}x");
    let mut asked = answer(FAMILIES[2], DHCP, "");
    asked.template.value = "t".into();
    let render = |times: u32| {
        let text = format!("{{% for a in range({times}) %}}{{{{ snippet('busy') }}}}{{% endfor %}}");
        render::answer_file(&asked, &world(defaults(), with_template(busy.clone(), "t", &text)))
    };
    assert_eq!(render(5).unwrap(), "xxxxx");
    assert_eq!(render(100).unwrap_err().kind, ErrorKind::TooMuch);
}

#[test]
fn a_changed_copy_of_the_texts_never_shows_what_was_compiled_before() {
    let before = with_snippet(with_template(assets(), "t", "old {{ snippet('s') }}"), "s", "old");
    let mut asked = answer(FAMILIES[2], DHCP, "");
    asked.template.value = "t".into();
    let render = |assets| render::answer_file(&asked, &world(defaults(), assets)).unwrap();
    assert_eq!(render(before.clone()), "old old");
    assert_eq!(
        render(with_template(before.clone(), "t", "new {% include 's' %}")),
        "new old"
    );
    assert_eq!(render(with_snippet(before.clone(), "s", "new")), "old new");
    assert_eq!(render(before), "old old");
}

fn text_of(template: &str, meta: &str) -> String {
    let mut asked = answer(FAMILIES[2], STATIC, meta);
    asked.template.value = "t".into();
    render::answer_file(&asked, &world(defaults(), with_template(assets(), "t", template))).unwrap()
}

#[test]
fn variables_have_cobblers_names() {
    let text = text_of(
        "{{ system_name }} {{ profile_name }} {{ distro_name }} {{ hostname }} {{ domain }} {{ ip_address_eth0 }} {{ netmask_eth0 }} \
         {{ interfaces.eth0.mac_address }} {{ gateway }} {{ http_server }} {{ tree }} {{ name_servers[0] }} {{ kernel_options_post }}",
        "",
    );
    assert_eq!(
        text,
        "web1 base el9 web1.lab.test lab.test 192.168.77.21 255.255.255.0 52:54:00:7c:1d:4f 192.168.77.1 192.168.77.1 \
         http://192.168.77.1/d/el9 192.168.77.2 console=ttyS0,115200 quiet"
    );
}

#[test]
fn meta_is_at_top_level_and_never_a_template() {
    assert_eq!(
        text_of(
            "{{ role }} {{ flag }} {{ many | join('+') }}",
            "role=db flag many=a many=b"
        ),
        "db True a+b"
    );
    assert_eq!(
        text_of("{{ role }}", "role=\"{{ root_password_hash }}\""),
        "{{ root_password_hash }}"
    );
    // Which machine this is, and where it reports, is no one's to set.
    assert!(text_of("{{ report_url }}", "report_url=http://evil/").contains("reporttoken"));
    assert_eq!(text_of("{{ tree }}", "tree=http://mirror/x"), "http://mirror/x");
}

#[test]
fn marks_are_replaced_after_rendering() {
    assert_eq!(
        text_of(
            "{{ tree }} @@hostname@@ @@nothing@@ @@",
            "tree=http://@@http_server@@/x"
        ),
        "http://192.168.77.1/x web1.lab.test @@nothing@@ @@"
    );
    assert_eq!(text_of("{{ a }}", "a=@@b@@ b=@@a@@"), "@@a@@");
}

#[test]
fn python_methods_and_trailing_newlines_are_kept() {
    assert_eq!(
        text_of(
            "{% for k, v in interfaces.items() %}{{ k.upper() }}{% endfor %} {{ 'a,b'.split(',')[1] }} {{ interfaces.get('x', 'none') }}\n",
            ""
        ),
        "ETH0 b none\n"
    );
    assert_eq!(
        text_of("{{ 'abc'.startswith('a') }} {{ ' a '.strip() }}${x} $y", ""),
        "True a${x} $y"
    );
}

#[test]
fn secrets_are_masked_in_the_list_of_variables() {
    let listed = render::variables(
        &answer(
            FAMILIES[2],
            DHCP,
            "site_password=hunter2 nested=$6$abcdefgh$0123456789abcdef",
        ),
        &world(defaults(), assets()),
    );
    let said = format!("{listed:?}");
    for secret in ["$6$", "hunter2", "installtoken", "reporttoken"] {
        assert!(!said.contains(secret), "{secret}");
    }
    let shown = |name: &str| listed.iter().find(|variable| variable.name == name).unwrap().shown();
    assert_eq!(shown("root_password_hash"), "(secret)");
    assert_eq!(shown("default_password_crypted"), "(secret)");
    assert_eq!(shown("hostname"), "web1.lab.test");
}

#[test]
fn an_iso_tree_of_debian_13_installs_though_unsigned() {
    let all = rendered();
    let find = |title: &str| {
        all.iter()
            .find(|(_, name, _)| name == title)
            .map(|(_, _, text)| text.as_str())
            .unwrap()
    };
    let iso = find("debian13-iso-dhcp");
    for word in [
        "allow_unauthenticated boolean true",
        "Acquire::AllowInsecureRepositories true;",
        "hostname string 192.168.77.1\n",
        "suite string trixie",
    ] {
        assert!(iso.contains(word), "{word}");
    }
    let netboot = find("debian13-netboot-dhcp");
    assert!(!netboot.contains("Insecure") && !netboot.contains("allow_unauthenticated"));
    assert!(netboot.contains("hostname string deb.debian.org\n"));
}

#[test]
fn alpines_overlay_is_packed_as_tar_unpacks_it() {
    for (family, name, text) in rendered() {
        if family.template != "alpine/apkovl" {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("x.apkovl.tar.gz");
        std::fs::write(
            &archive,
            render::overlay(&text).unwrap_or_else(|error| panic!("{name}: {error}")),
        )
        .unwrap();
        let output = std::process::Command::new("tar")
            .arg("-xzf")
            .arg(&archive)
            .arg("-C")
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{name}: {output:?}"
        );
        let etc = folder.path().join("etc");
        assert_eq!(std::fs::read_to_string(etc.join("hostname")).unwrap(), "web1\n");
        let install = std::fs::read_to_string(etc.join("cordwainer-install")).unwrap();
        assert!(scripts_of(&text).contains(&install), "{name}");
        // The initramfs starts no service by itself where there is an overlay.
        for service in ["sysinit/modloop", "boot/hostname", "default/local", "shutdown/mount-ro"] {
            let link = etc.join("runlevels").join(service);
            let to = std::fs::read_link(&link).unwrap();
            assert!(
                to.starts_with("/etc/init.d") && to.file_name() == link.file_name(),
                "{name}: {service}"
            );
        }
    }
}
