//! The routes that wait for a container: its end, and its output.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use nacre_cli::api::{self, StreamKind};

use super::answer::{self, Outcome};
use super::call::Call;
use super::params::ApiVersion;
use crate::engine::{Error, Line, More, Stream, Turn, Wanted, when};

/// Raw streams had no name of their own below this version.
pub(crate) const MULTIPLEXED_SINCE: ApiVersion = ApiVersion(1, 42);

/// What a wait waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    NotRunning,
    NextExit,
    Removed,
}

impl Condition {
    fn parse(text: &str) -> Result<Condition, Error> {
        match text {
            "" | "not-running" => Ok(Condition::NotRunning),
            "next-exit" => Ok(Condition::NextExit),
            "removed" => Ok(Condition::Removed),
            other => Err(Error::invalid(format!("invalid condition: {other:?}"))),
        }
    }

    fn is_met(self, turn: &Turn, exits_before: u64) -> bool {
        match self {
            Condition::NotRunning => !turn.active,
            Condition::NextExit => turn.exits != exits_before || turn.gone,
            Condition::Removed => turn.gone,
        }
    }
}

/// The headers go out at once, the body when the container ends: docker's client waits before it starts.
pub(crate) async fn wait(call: Call, name: String) -> Outcome {
    let condition = Condition::parse(call.params.text("condition"))?;
    let mut turns = call.work(move |engine| engine.turns(&name)).await?;
    let before = turns.borrow_and_update().exits;
    let body = async move {
        let turn = match turns.wait_for(|turn| condition.is_met(turn, before)).await {
            Ok(turn) => turn.clone(),
            // The container is gone with all that knew of it.
            Err(_) => Turn::default(),
        };
        // A failed start is told to whoever started; docker leaves the error of a wait empty too.
        let answer = api::WaitResponse {
            error: None,
            status_code: i64::from(turn.exit_code),
        };
        let mut bytes = serde_json::to_vec(&answer).map_err(std::io::Error::other)?;
        bytes.push(b'\n');
        Ok(Bytes::from(bytes))
    };
    Ok(answer::streamed("application/json", stream::once(body)))
}

pub(crate) async fn logs(call: Call, name: String) -> Outcome {
    let wanted = wanted(&call)?;
    if !wanted.stdout && !wanted.stderr {
        return Err(Error::invalid(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let timestamps = call.params.flag("timestamps", false);
    let details = call.params.flag("details", false);
    let container = {
        let name = name.clone();
        call.work(move |engine| engine.container(&name)).await?
    };
    let tty = container.config.tty;
    let labels = if details {
        details_of(&container)
    } else {
        String::new()
    };
    let (to, from) = answer::pipe();
    let engine = Arc::clone(&call.engine);
    let id = container.id.to_string();
    tokio::task::spawn_blocking(move || {
        let told = engine.logs(&id, &wanted, &mut |line| {
            let Some(line) = line else {
                return if to.is_closed() { More::No } else { More::Yes };
            };
            let bytes = shown(&line, tty, timestamps, &labels);
            if to.blocking_send(bytes).is_ok() {
                More::Yes
            } else {
                More::No
            }
        });
        if let Err(error) = told {
            let message = answer::chain(&error);
            // Headers are out: the stream itself must say it.
            drop(to.blocking_send(frame(StreamKind::System, message.as_bytes())));
        }
    });
    let multiplexed = !tty && call.version >= MULTIPLEXED_SINCE;
    let content_type = if multiplexed {
        api::MULTIPLEXED_STREAM
    } else {
        api::RAW_STREAM
    };
    Ok(answer::streamed(content_type, answer::chunks(from)))
}

fn wanted(call: &Call) -> Result<Wanted, Error> {
    let now = when::now();
    let point = |key: &str| {
        let text = call.params.some(key).filter(|text| *text != "0");
        let bad = |text: &str| Error::invalid(format!("invalid value for {key}: {text:?}"));
        text.map(|text| when::point(text, now).ok_or_else(|| bad(text)))
            .transpose()
    };
    Ok(Wanted {
        stdout: call.params.flag("stdout", false),
        stderr: call.params.flag("stderr", false),
        since: point("since")?,
        until: point("until")?,
        // docker takes whatever is no number for "all".
        tail: call.params.text("tail").parse().ok(),
        follow: call.params.flag("follow", false),
    })
}

/// docker's --details: the labels and variables that the log driver was asked to add. json-file adds none by default.
fn details_of(container: &crate::engine::Container) -> String {
    let asked = container
        .host_config
        .pointer("/LogConfig/Config/labels")
        .and_then(serde_json::Value::as_str);
    let wanted: Vec<&str> = asked
        .unwrap_or_default()
        .split(',')
        .filter(|key| !key.is_empty())
        .collect();
    let labels = container
        .config
        .labels
        .iter()
        .flatten()
        .filter(|(key, _)| wanted.contains(&key.as_str()));
    let pairs: Vec<String> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!("{} ", pairs.join(","))
}

fn shown(line: &Line, tty: bool, timestamps: bool, details: &str) -> Bytes {
    let mut text = Vec::with_capacity(line.text.len());
    if timestamps {
        text.extend_from_slice(when::rfc3339_full(line.time).as_bytes());
        text.push(b' ');
    }
    text.extend_from_slice(details.as_bytes());
    text.extend_from_slice(&line.text);
    let kind = match line.stream {
        Stream::Stdout => StreamKind::Stdout,
        Stream::Stderr => StreamKind::Stderr,
    };
    if tty {
        Bytes::from(text)
    } else {
        frame(kind, &text)
    }
}

/// One frame of a multiplexed stream.
pub(crate) fn frame(kind: StreamKind, payload: &[u8]) -> Bytes {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let payload = payload
        .get(..usize::try_from(len).unwrap_or(usize::MAX))
        .unwrap_or(payload);
    Bytes::from([&api::frame_header(kind, len)[..], payload].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_met_by_the_right_turn() {
        let running = Turn {
            active: true,
            exits: 1,
            ..Turn::default()
        };
        let ended = Turn {
            active: false,
            exits: 2,
            ..Turn::default()
        };
        let gone = Turn {
            gone: true,
            ..ended.clone()
        };
        assert!(
            !Condition::NotRunning.is_met(&running, 1) && Condition::NotRunning.is_met(&ended, 2)
        );
        assert!(!Condition::NextExit.is_met(&running, 1) && Condition::NextExit.is_met(&ended, 1));
        assert!(!Condition::Removed.is_met(&ended, 1) && Condition::Removed.is_met(&gone, 1));
    }

    #[test]
    fn a_line_without_a_terminal_is_framed() {
        let line = Line {
            stream: Stream::Stderr,
            time: 0,
            text: b"hi\n".to_vec(),
        };
        assert_eq!(
            &shown(&line, false, false, "")[..],
            b"\x02\0\0\0\0\0\0\x03hi\n"
        );
        assert_eq!(
            &shown(&line, true, true, "")[..],
            b"1970-01-01T00:00:00.000000000Z hi\n"
        );
    }
}
