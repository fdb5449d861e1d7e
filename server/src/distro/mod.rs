//! distro: being built.
