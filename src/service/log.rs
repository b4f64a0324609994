//! The service's own log: one line an event on standard error, which is the terminal, the journal or the log file.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::engine::when;

/// Writes events up to a level. Spans are numbered, not written.
struct Lines {
    level: Level,
    spans: AtomicU64,
}

/// Writes what is traced from now on to standard error; `debug` also what only helps to find faults.
pub(crate) fn start(debug: bool) {
    let level = if debug { Level::DEBUG } else { Level::INFO };
    let lines = Lines {
        level,
        spans: AtomicU64::new(1),
    };
    // A second service in one process would be a test's; it logs where the first does.
    tracing::subscriber::set_global_default(lines).ok();
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Other people's crates talk a lot: of them only what is wrong.
        let ours = metadata.target().starts_with("nacre");
        *metadata.level()
            <= if ours {
                self.level
            } else {
                self.level.min(Level::WARN)
            }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed).max(1))
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line {
            message: String::new(),
            fields: String::new(),
        };
        event.record(&mut line);
        let level = event.metadata().level();
        let time = when::rfc3339(when::now());
        let text = format!("{time} {level} {}{}\n", line.message, line.fields);
        // A log that cannot be written has nowhere to say so.
        std::io::stderr().write_all(text.as_bytes()).ok();
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
        // Writing to a string fails only if the value's own Debug does.
        written.ok();
    }
}
