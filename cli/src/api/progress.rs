//! The lines of a progress stream: of pull, push, load, import and of
//! `/nacre/pull`. One JSON object and `\r\n` each.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line of a progress stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Text to print as it is (load).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Written as `{}` where there are no numbers: docker's client tells a
    /// line that it shows by that from one that only moves a bar.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The numbers once more, drawn for old clients.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

/// How far one item of a progress stream is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

impl ProgressDetail {
    /// Says whether there is anything to draw.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current.unwrap_or(0) == 0 && self.total.unwrap_or(0) == 0
    }
}

/// An error that ended a progress stream after it had begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    pub message: String,
}

impl Progress {
    /// A line of text, without an id.
    #[must_use]
    pub fn status(status: impl Into<String>) -> Self {
        Self {
            status: status.into(),
            ..Self::default()
        }
    }

    /// What happens to one layer, without numbers.
    #[must_use]
    pub fn layer(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            status: status.into(),
            progress_detail: Some(ProgressDetail::default()),
            ..Self::default()
        }
    }

    /// How far one layer is.
    #[must_use]
    pub fn bytes(
        id: impl Into<String>,
        status: impl Into<String>,
        current: u64,
        total: u64,
    ) -> Self {
        Self {
            id: id.into(),
            status: status.into(),
            progress_detail: Some(ProgressDetail {
                current: Some(current),
                total: Some(total).filter(|total| *total > 0),
            }),
            ..Self::default()
        }
    }

    /// The error that ends the stream.
    #[must_use]
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            error_detail: Some(ErrorDetail {
                code: None,
                message: message.clone(),
            }),
            error: message,
            ..Self::default()
        }
    }

    /// Text to print as it is, its line end included.
    #[must_use]
    pub fn text(stream: impl Into<String>) -> Self {
        Self {
            stream: stream.into(),
            ..Self::default()
        }
    }

    /// A result for programs.
    #[must_use]
    pub fn aux(aux: Value) -> Self {
        Self {
            progress_detail: Some(ProgressDetail::default()),
            aux: Some(aux),
            ..Self::default()
        }
    }

    /// The line as it is sent: the object and `\r\n`.
    ///
    /// # Errors
    /// If the aux value cannot be serialised.
    pub fn to_line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.extend_from_slice(b"\r\n");
        Ok(line)
    }
}
