//! Has the crate built again when a template or a signature is added: `include_dir!` alone sees only changes of files that it knows.

fn main() {
    for folder in ["../kickstarts", "../distros"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
