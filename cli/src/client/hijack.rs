//! A connection that stops being HTTP: `attach` and `exec`.

use hyper::StatusCode;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::{Call, Client, content_type};
use crate::api::MULTIPLEXED_STREAM;
use crate::error::{Error, Result};

/// Bytes both ways, after the service switched protocols.
pub(crate) struct Hijacked {
    /// The stream; shutting down its writing side ends the process's stdin.
    pub(crate) stream: TokioIo<Upgraded>,
    /// Whether the service says that the output is framed; `None`: it does
    /// not say.
    pub(crate) framed: Option<bool>,
}

impl Client {
    /// Sends a request and takes the connection over.
    pub(crate) async fn hijack(&self, call: Call) -> Result<Hijacked> {
        let call = call
            .header("Connection", "Upgrade".to_owned())
            .header("Upgrade", "tcp".to_owned());
        let what = call.route.to_string();
        let response = self.send(call).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::said(format!(
                "unable to upgrade to tcp, received {}",
                response.status().as_u16()
            )));
        }
        let framed = match content_type(&response) {
            "" => None,
            kind => Some(kind == MULTIPLEXED_STREAM),
        };
        let stream = hyper::upgrade::on(response)
            .await
            .map_err(|source| Error::Connection { what, source })?;
        Ok(Hijacked {
            stream: TokioIo::new(stream),
            framed,
        })
    }
}
