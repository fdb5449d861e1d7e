//! Who boots an image, by what, and how often.

use super::*;
use crate::assets::ImageFile;
use crate::boot::{CobblerAsk, ImageStart, When};
use crate::model::{Image, ImageType, Name};

/// The world of the other tests, with web1 armed and standing on an image of this type.
fn of_image(image_type: ImageType, is_iso: bool, memdisk: bool) -> World {
    let mut world = world(DhcpMode::Authoritative, true);
    let mut inventory = (*world.inventory).clone();
    let name: Name = "tool".parse().unwrap();
    let mut image = Image::new(name.clone());
    image.image_type = image_type;
    image.kernel_options = "quiet".parse().unwrap();
    inventory.put(Row::Image(Arc::new(image)));
    let mut system = (**inventory.system("web1").unwrap()).clone();
    (system.profile, system.image) = (None, Some(name.clone()));
    inventory.put(Row::System(Arc::new(system)));
    world.inventory = Arc::new(inventory);
    let mut assets = (*world.assets).clone();
    let file = ImageFile {
        asset: Arc::new(asset("/srv/tool.img")),
        is_iso,
    };
    assets.images.insert(name, Arc::new(Ok(file)));
    if memdisk {
        assets.loaders.insert("memdisk".into(), Arc::new(asset("memdisk")));
    }
    world.assets = Arc::new(assets);
    world
}

fn start_of(decision: &Decision) -> Option<ImageStart> {
    match &decision.answer {
        Answer::Script(script) => match &**script {
            Script::Image(boot) => Some(boot.start.clone()),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn each_type_of_image_is_started_by_what_can() {
    let memdisk = |words| ImageStart::Memdisk {
        memdisk: "http://192.0.2.1/l/memdisk".into(),
        words,
    };
    let (bios, uefi) = (Some(Firmware::Bios), Some(Firmware::UefiX64));
    for (image, is_iso, has_memdisk, dialect, firmware, expected) in [
        (
            ImageType::Direct,
            false,
            false,
            Dialect::Ipxe,
            uefi,
            Some(ImageStart::Kernel),
        ),
        (
            ImageType::Direct,
            false,
            false,
            Dialect::Pxelinux,
            bios,
            Some(ImageStart::Kernel),
        ),
        (ImageType::Iso, true, true, Dialect::Ipxe, bios, Some(ImageStart::Drive)),
        (ImageType::Iso, true, true, Dialect::Ipxe, uefi, Some(ImageStart::Drive)),
        (ImageType::Iso, true, true, Dialect::Grub, bios, None),
        (ImageType::Iso, false, true, Dialect::Ipxe, bios, None),
        (
            ImageType::Memdisk,
            false,
            true,
            Dialect::Ipxe,
            bios,
            Some(memdisk("raw")),
        ),
        (
            ImageType::Memdisk,
            true,
            true,
            Dialect::Pxelinux,
            bios,
            Some(memdisk("iso raw")),
        ),
        (
            ImageType::Memdisk,
            false,
            false,
            Dialect::Ipxe,
            bios,
            Some(ImageStart::Drive),
        ),
        (ImageType::Memdisk, false, false, Dialect::Grub, bios, None),
        (
            ImageType::Memdisk,
            true,
            true,
            Dialect::Ipxe,
            uefi,
            Some(ImageStart::Drive),
        ),
        (ImageType::Memdisk, false, true, Dialect::Ipxe, uefi, None),
        (ImageType::VirtClone, false, true, Dialect::Ipxe, bios, None),
    ] {
        let world = of_image(image, is_iso, has_memdisk);
        let request = Facts {
            firmware,
            ..facts(HERS)
        };
        let decision = ask(&world, request, Ask::Script(dialect));
        let what = format!("{image} {dialect:?} {firmware:?}: {decision:?}");
        assert_eq!(start_of(&decision), expected, "{what}");
        // What cannot be started is no reason to spend the arming.
        assert_eq!(decision.effects.is_empty(), expected.is_none(), "{what}");
        assert_eq!(is_local(&decision), expected.is_none(), "{what}");
    }
}

#[test]
fn an_armed_machine_boots_its_image_once() {
    let world = of_image(ImageType::Direct, false, false);
    let file = |world: &World, peer| ask(world, facts(peer), Ask::ImageFile("tool".parse().unwrap()));
    // The file alone opens nothing, and spends nothing: anyone may fetch it.
    let early = file(&world, HERS);
    assert!(matches!(early.answer, Answer::Loader(_)) && early.effects.is_empty());
    assert!(is_local(&script(&world, OTHER)), "another machine's address");
    let given = script(&world, HERS);
    assert_eq!(start_of(&given), Some(ImageStart::Kernel));
    let claimed = after(world, &given, 1000);
    // A lost packet is no other boot.
    assert_eq!(start_of(&script(&claimed, HERS)), Some(ImageStart::Kernel));
    assert!(file(&claimed, OTHER).effects.is_empty());
    let fetched = file(&claimed, HERS);
    assert!(matches!(
        fetched.effects.as_slice(),
        [Effect::Install {
            when: When::Before,
            act: Act {
                input: Input::ImageFetched,
                ..
            }
        }]
    ));
    let booted = after(claimed, &fetched, 1000);
    assert_eq!(booted.installs.by_system["web1"].state, State::Booted);
    let again = script(&booted, HERS);
    assert!(is_local(&again) && again.effects.is_empty());
    // The rest of a drive that is read block by block, and iPXE's second try, go on.
    assert!(matches!(file(&booted, HERS).answer, Answer::Loader(_)));
    assert!(file(&booted, HERS).effects.is_empty());
}

#[test]
fn a_guests_disk_and_what_is_missing_are_sent_to_nobody() {
    let name: Name = "tool".parse().unwrap();
    let golden = of_image(ImageType::VirtClone, false, false);
    let decision = ask(&golden, facts(HERS), Ask::ImageFile(name.clone()));
    assert!(matches!(decision.answer, Answer::NotFound));
    let mut lost = of_image(ImageType::Direct, false, false);
    let mut assets = (*lost.assets).clone();
    assets
        .images
        .insert(name.clone(), Arc::new(Err("/x is missing".into())));
    lost.assets = Arc::new(assets);
    assert!(matches!(
        ask(&lost, facts(HERS), Ask::ImageFile(name)).answer,
        Answer::NotFound
    ));
    let decision = script(&lost, HERS);
    assert!(is_local(&decision) && decision.effects.is_empty());
    assert_eq!(verdict(&decision), "cannot boot its image");
    let by_url = |world: &World, image: &str| {
        let image = Some(image.to_owned());
        ask(
            world,
            facts(HERS),
            Ask::Cobbler(CobblerAsk::Ipxe { system: None, image }),
        )
    };
    let world = of_image(ImageType::Direct, false, false);
    assert_eq!(start_of(&by_url(&world, "tool")), Some(ImageStart::Kernel));
    assert!(matches!(by_url(&world, "other").answer, Answer::NotFound));
}
