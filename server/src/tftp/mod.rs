//! tftp: being built.
