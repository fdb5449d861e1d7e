//! render: being built.
