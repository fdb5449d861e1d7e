//! The power of systems that are guests: asked of their supervisor, which speaks with libvirt; this process never does.

use crate::guest::protocol::{Reply, Request};
use crate::guest::supervise::{Client, ClientError};
use crate::model::{Name, Power};
use crate::ports::{BoxFuture, Powers};
use std::path::{Path, PathBuf};
use tokio::task::spawn_blocking;

/// The way to the supervisor of guests.
pub(super) struct Supervised {
    /// The state folder, where its socket is.
    pub(super) state: PathBuf,
    /// The configuration says that power is switched over the network.
    pub(super) allowed: bool,
}

impl Powers for Supervised {
    fn power(&self, system: Name, power: Power) -> BoxFuture<'_, Result<bool, String>> {
        let (state, allowed) = (self.state.clone(), self.allowed);
        Box::pin(async move {
            if !allowed {
                return Err("the power of guests is not switched over XML-RPC here; write power = \"on\" into [cobbler] of the \
                            configuration and restart the server and the supervisor of guests, or use cordwainer system poweron"
                    .to_owned());
            }
            spawn_blocking(move || ask(&state, system, power))
                .await
                .map_err(|_| "internal error".to_owned())?
        })
    }
}

/// Asks. Where the socket lies is for the log, and not for the network.
fn ask(state: &Path, system: Name, power: Power) -> Result<bool, String> {
    let request = Request::Power { system, power };
    let said = Client::connect(state).and_then(|client| client.ask_one(&request));
    match said {
        Ok(Reply::Power { on, .. }) => Ok(on),
        Err(ClientError::Refused(text)) => Err(text),
        Err(error @ (ClientError::NotRunning { .. } | ClientError::NotAllowed(_))) => {
            tracing::warn!("the power of a guest was asked for over XML-RPC: {error}");
            Err("no supervisor of guests answers; start it: systemctl start cordwainer-guests".to_owned())
        }
        Ok(_) | Err(ClientError::Broken(_)) => Err(
            "the supervisor of guests does not answer this server; restart it, so that it reads power = \"on\" in [cobbler]".to_owned(),
        ),
    }
}
