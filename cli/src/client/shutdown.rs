//! Asking the service to stop: never starts one for that.

use hyper::StatusCode;

use super::{Call, Client, Route, read_whole};
use crate::api::ShutdownRefusal;
use crate::error::{Error, Result};

impl Client {
    /// Asks the service to stop; returns what is in use if it refuses. A
    /// service that does not run has stopped.
    pub(crate) async fn shutdown(&self) -> Result<Option<ShutdownRefusal>> {
        let Some(stream) = self.connector.connect_if_running().await else {
            return Ok(None);
        };
        let call = Call::post(Route::nacre(&["shutdown"]));
        let what = "shutdown".to_owned();
        let response = Self::exchange(stream, call).await?;
        let status = response.status();
        let bytes = read_whole(response, &what).await?;
        if status == StatusCode::CONFLICT {
            return serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::Answer { what, source });
        }
        if status.is_success() {
            return Ok(None);
        }
        Err(super::refused(status, &bytes, &what))
    }
}
