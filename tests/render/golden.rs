//! Golden texts below tests/golden. `UPDATE_GOLDEN=1` writes them anew; look at the difference before it is committed.

use super::fixture::root;
use std::fs;

/// Compares `text` with the golden file `name`.
pub fn check(name: &str, text: &str) {
    let path = root().join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let golden = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("tests/golden/{name}: {error}; UPDATE_GOLDEN=1 makes it"));
    if golden != text {
        let line = golden.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
        panic!(
            "tests/golden/{name} differs from line {}:\n golden: {:?}\n is now: {:?}\nUPDATE_GOLDEN=1 takes what is now",
            line + 1,
            golden.lines().nth(line),
            text.lines().nth(line)
        );
    }
}
