//! The sample documents of `profiles/` are applied, each alone and all together, as their first lines say.

use super::transcript::prepared;
use std::path::Path;

#[test]
fn every_sample_document_applies_and_arms_nobody() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles");
    let session = prepared("");
    let tree = session.path("tree");
    session
        .run(&["import", "--path", tree.to_str().unwrap(), "--name", "rocky9"])
        .succeeded();
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        session.run(&["apply", path.to_str().unwrap()]).succeeded();
        count += 1;
    }
    assert_eq!(count, 3);
    let again = session.run(&["--json", "apply", folder.to_str().unwrap()]).succeeded();
    assert_eq!(again.json()["changed"], serde_json::json!([]));
    assert_eq!(
        session.run(&["system", "list"]).succeeded().out,
        "gateway1\nweb1\nweb2\nweb3\n"
    );
    assert_eq!(session.run(&["system", "find", "--netboot-enabled=1"]).ended(1).out, "");
}

#[test]
fn what_is_exported_applies_elsewhere() {
    let session = prepared("");
    let tree = session.path("tree");
    session
        .run(&["import", "--path", tree.to_str().unwrap(), "--name", "rocky9"])
        .succeeded();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles");
    session.run(&["apply", folder.to_str().unwrap()]).succeeded();
    let exported = session.run(&["export"]).succeeded().out;
    let other = prepared("");
    let document = other.write("all.toml", &exported);
    other.run(&["apply", &document]).succeeded();
    assert_eq!(other.run(&["export"]).succeeded().out, exported);
}
