//! Progress while an image comes or goes: a bar for each layer on a terminal,
//! docker's plain lines elsewhere, nothing with `-q`.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::api::Progress;
use crate::client::JsonLines;
use crate::draw::{err_bytes, out_bytes};
use crate::error::{Error, Result};

/// How many layers are drawn at once; an image has at most 127.
const BARS_MAX: usize = 1024;

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Standard output: pull, push, load.
    Stdout,
    /// Standard error: whatever `run` pulls.
    Stderr,
    /// Nowhere: `-q`.
    Nowhere,
}

/// Shows the lines of a progress stream.
pub(crate) struct Display {
    place: Place,
    bars: Option<Bars>,
}

struct Bars {
    multi: MultiProgress,
    by_id: HashMap<String, ProgressBar>,
    place: Place,
}

impl Display {
    pub(crate) fn new(place: Place) -> Self {
        let terminal = match place {
            Place::Stdout => std::io::stdout().is_terminal(),
            Place::Stderr => std::io::stderr().is_terminal(),
            Place::Nowhere => false,
        } && can_move_cursor();
        Self {
            place,
            bars: terminal.then(|| Bars::new(place)),
        }
    }

    /// Shows one line.
    pub(crate) fn show(&mut self, line: &Progress) -> Result<()> {
        let moves_a_bar = line
            .progress_detail
            .is_some_and(|detail| !detail.is_empty());
        if let Some(bars) = &mut self.bars {
            if !line.id.is_empty() && bars.draw(line) {
                return Ok(());
            }
            // Whatever has no line of its own stands below the layers.
            bars.settle();
        } else if moves_a_bar {
            return Ok(());
        }
        let text = if line.stream.is_empty() {
            let id = match line.id.as_str() {
                "" => String::new(),
                id => format!("{id}: "),
            };
            format!("{id}{}\n", line.status)
        } else {
            line.stream.clone()
        };
        self.write(text.as_bytes())
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        match self.place {
            Place::Stdout => out_bytes(bytes),
            Place::Stderr => {
                err_bytes(bytes);
                Ok(())
            }
            Place::Nowhere => Ok(()),
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(bars) = &mut self.bars {
            bars.settle();
        }
    }
}

impl Bars {
    fn new(place: Place) -> Self {
        Self {
            multi: MultiProgress::with_draw_target(target(place)),
            by_id: HashMap::new(),
            place,
        }
    }

    /// Draws a layer's line; `false` if there are too many to draw.
    fn draw(&mut self, line: &Progress) -> bool {
        if !self.by_id.contains_key(&line.id) && self.by_id.len() >= BARS_MAX {
            return false;
        }
        let bar = self.by_id.entry(line.id.clone()).or_insert_with(|| {
            let bar = self.multi.add(ProgressBar::new(0));
            bar.set_prefix(line.id.clone());
            bar
        });
        let detail = line.progress_detail.unwrap_or_default();
        match (detail.current, detail.total) {
            (Some(current), Some(total)) if total > 0 => {
                bar.set_style(style(BAR_TEMPLATE));
                bar.set_length(total);
                bar.set_position(current.min(total));
            }
            (Some(current), _) if current > 0 => {
                bar.set_style(style(COUNT_TEMPLATE));
                bar.set_position(current);
            }
            _ => bar.set_style(style(STATUS_TEMPLATE)),
        }
        bar.set_message(line.status.clone());
        bar.tick();
        true
    }

    /// Leaves the lines as they are and starts anew below them.
    fn settle(&mut self) {
        if self.by_id.is_empty() {
            return;
        }
        for bar in self.by_id.values() {
            bar.abandon();
        }
        self.by_id.clear();
        // The cursor stands at the end of the last line drawn.
        let newline = match self.place {
            Place::Stderr => std::io::stderr().lock().write_all(b"\n"),
            _ => std::io::stdout().lock().write_all(b"\n"),
        };
        // A terminal that is gone shows no progress; the result is still told.
        drop(newline);
        self.multi = MultiProgress::with_draw_target(target(self.place));
    }
}

/// Says whether the terminal is more than a printer.
fn can_move_cursor() -> bool {
    std::env::var("TERM").is_ok_and(|kind| !kind.is_empty() && kind != "dumb")
}

const BAR_TEMPLATE: &str =
    "{prefix}: {msg:<20} [{bar:30}] {decimal_bytes:>9}/{decimal_total_bytes}";
const COUNT_TEMPLATE: &str = "{prefix}: {msg:<20} {decimal_bytes:>9}";
const STATUS_TEMPLATE: &str = "{prefix}: {msg}";

/// Bars are drawn so often a second: enough for the eye, nothing for the CPU.
const DRAWS_PER_SECOND: u8 = 15;

fn target(place: Place) -> ProgressDrawTarget {
    match place {
        Place::Stdout => ProgressDrawTarget::stdout_with_hz(DRAWS_PER_SECOND),
        Place::Stderr => ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
        Place::Nowhere => ProgressDrawTarget::hidden(),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// A wheel for work whose length nobody knows, on standard error; nothing if
/// that is not a terminal.
pub(crate) fn spinner(message: &str) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    bar.set_message(message.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Shows a whole stream; returns its aux values and its last status.
///
/// # Errors
/// The error that the service sent within the stream.
pub(crate) async fn follow(mut lines: JsonLines, place: Place) -> Result<Outcome> {
    let mut display = Display::new(place);
    let mut outcome = Outcome::default();
    while let Some(line) = lines.next::<Progress>().await? {
        if let Some(detail) = &line.error_detail {
            return Err(Error::said(detail.message.clone()));
        }
        if !line.error.is_empty() {
            return Err(Error::said(line.error));
        }
        if let Some(aux) = line.aux {
            outcome.aux.push(aux);
            continue;
        }
        display.show(&line)?;
        if !line.status.is_empty() {
            outcome.last_status = line.status;
        }
        if !line.stream.is_empty() {
            outcome.text.push_str(&line.stream);
        }
    }
    Ok(outcome)
}

/// What a stream said beside its progress.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) aux: Vec<Value>,
    pub(crate) last_status: String,
    /// All text that was sent to be printed as it is.
    pub(crate) text: String,
}
