//! http: being built.
