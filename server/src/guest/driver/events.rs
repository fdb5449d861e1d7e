//! What libvirt calls back: lifecycle events of domains and the end of a connection, which the crate `virt` does not wrap; a domain's
//! state with its reason, which it reads without looking whether the call worked; and streams that do not wait, whose "nothing yet" it
//! takes for an error.
//!
//! The only file that calls libvirt's C functions itself. libvirt's default event loop runs in one thread of the process, for ever.
#![expect(
    unsafe_code,
    reason = "virt 0.5 wraps no domain events; the symbols are libvirt's own, and each use says why it is sound"
)]
#![allow(clippy::disallowed_methods, reason = "IO: libvirt")]

use crate::guest::spec::Uuid;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Once;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::stream::Stream;
use virt::sys;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// To this domain; what, is looked for.
    Domain(Uuid),
    /// The connection has ended.
    Closed,
}

/// Who is told. Called on libvirt's event thread: it must not block and not call libvirt.
type Tell = Box<dyn Fn(Seen) + Send + Sync>;

static LOOP: Once = Once::new();

/// Registers libvirt's event loop and runs it. Once in a process, before the first connection: one that was opened before gets no events.
pub(super) fn prepare() {
    LOOP.call_once(|| {
        // libvirt prints each error on stderr otherwise.
        virt::error::clear_error_callback();
        if let Err(error) = virt::event::event_register_default_impl() {
            tracing::error!("libvirt has no event loop: {error}");
            return;
        }
        let run = || {
            loop {
                if let Err(error) = virt::event::event_run_default_impl() {
                    tracing::warn!("libvirt's event loop: {error}");
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("libvirt".into()).spawn(run) {
            tracing::error!("libvirt's event loop has no thread: {error}");
        }
    });
}

/// A connection whose events are told. Dropping it ends that.
pub struct Watch {
    connect: Connect,
    callback: c_int,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("callback", &self.callback)
            .finish_non_exhaustive()
    }
}

/// Tells what happens on a connection from now on.
pub(super) fn watch(connect: &Connect, tell: Tell) -> Result<Watch, Error> {
    let connect = connect.clone();
    let tell = std::sync::Arc::new(tell);
    // SAFETY: `opaque` is a box of our own that `free` gets back exactly once, when libvirt drops the callback; the callback has the
    // signature that libvirt documents for VIR_DOMAIN_EVENT_ID_LIFECYCLE, so the cast to the generic type is what its documentation asks
    // for (VIR_DOMAIN_EVENT_CALLBACK). The connection is alive: we hold a reference.
    let callback = unsafe {
        let opaque = Box::into_raw(Box::new(tell.clone()));
        let generic = std::mem::transmute::<LifecycleCallback, GenericCallback>(lifecycle);
        let id = sys::virConnectDomainEventRegisterAny(
            connect.as_ptr(),
            std::ptr::null_mut(),
            LIFECYCLE,
            Some(generic),
            opaque.cast::<c_void>(),
            Some(free),
        );
        if id < 0 {
            drop(Box::from_raw(opaque));
            return Err(Error::last_error());
        }
        id
    };
    // SAFETY: as above. The test driver has no connection that could close; it refuses, and nothing is lost.
    unsafe {
        let opaque = Box::into_raw(Box::new(tell));
        let taken =
            sys::virConnectRegisterCloseCallback(connect.as_ptr(), Some(closed), opaque.cast::<c_void>(), Some(free));
        if taken < 0 {
            drop(Box::from_raw(opaque));
        }
    }
    Ok(Watch { connect, callback })
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: the connection is alive, for we hold a reference; the callback id is of this connection and is given back once.
        // Errors mean that the connection took the callbacks with it.
        unsafe {
            sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), self.callback);
            sys::virConnectUnregisterCloseCallback(self.connect.as_ptr(), Some(closed));
        }
    }
}

type Shared = std::sync::Arc<Tell>;
type LifecycleCallback =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
type GenericCallback = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);

/// `VIR_DOMAIN_EVENT_ID_LIFECYCLE`.
const LIFECYCLE: c_int = 0;
/// `VIR_UUID_STRING_BUFLEN`.
const UUID_TEXT: usize = 37;

/// libvirt's thread calls this for every step of a domain's life.
unsafe extern "C" fn lifecycle(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _event: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    let mut text: [c_char; UUID_TEXT] = [0; UUID_TEXT];
    // SAFETY: libvirt lends the domain for this call; the buffer is as long as it asks for, and ends with a zero when the call worked.
    let uuid = unsafe {
        if sys::virDomainGetUUIDString(domain, text.as_mut_ptr()) < 0 {
            return 0;
        }
        CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned()
    };
    // SAFETY: `opaque` is the box that `watch` gave, which lives until `free`, and libvirt calls nothing after that.
    let tell = unsafe { &*opaque.cast::<Shared>() };
    if let Ok(uuid) = uuid.parse() {
        tell(Seen::Domain(uuid));
    }
    0
}

/// libvirt's thread calls this when the connection is gone.
unsafe extern "C" fn closed(_connect: sys::virConnectPtr, _reason: c_int, opaque: *mut c_void) {
    // SAFETY: as in `lifecycle`.
    let tell = unsafe { &*opaque.cast::<Shared>() };
    tell(Seen::Closed);
}

/// libvirt gives the box back.
unsafe extern "C" fn free(opaque: *mut c_void) {
    // SAFETY: it is the box that `watch` made for this callback, and libvirt frees it once.
    drop(unsafe { Box::from_raw(opaque.cast::<Shared>()) });
}

/// A domain's state and the reason for it; none when libvirt cannot tell.
pub(super) fn state(domain: &Domain) -> Option<(sys::virDomainState, i32)> {
    let (mut state, mut reason): (c_int, c_int) = (-1, -1);
    // SAFETY: the domain is alive, for we borrow it; both pointers are to our own numbers.
    let result = unsafe { sys::virDomainGetState(domain.as_ptr(), &raw mut state, &raw mut reason, 0) };
    if result < 0 {
        return None;
    }
    Some((sys::virDomainState::try_from(state).ok()?, reason))
}

/// What a stream that does not wait gave, or took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes, never none.
    Some(usize),
    /// Nothing yet.
    NothingYet,
    /// It has ended.
    End,
}

/// `virStreamRecv` and `virStreamSend`: -2 where they would have to wait.
fn received(result: c_int) -> Received {
    match (usize::try_from(result), result) {
        (Ok(count), 1..) => Received::Some(count),
        (_, -2) => Received::NothingYet,
        _ => Received::End,
    }
}

/// Takes what is there of a stream that was opened so as not to wait.
pub(super) fn receive(stream: &Stream, buffer: &mut [u8]) -> Received {
    // SAFETY: the stream is alive, for we borrow it; libvirt writes at most `len` bytes into the buffer, which is ours.
    received(unsafe { sys::virStreamRecv(stream.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// Gives a stream that was opened so as not to wait what it takes of these bytes.
pub(super) fn send(stream: &Stream, bytes: &[u8]) -> Received {
    // SAFETY: the stream is alive, for we borrow it; libvirt reads at most `len` bytes.
    received(unsafe { sys::virStreamSend(stream.as_ptr(), bytes.as_ptr().cast(), bytes.len()) })
}
