//! DHCP: real firmware's packets and hostile ones through `respond`, and real clients against the real server.

mod captures;
mod properties;
mod rfc2131;
mod world;
