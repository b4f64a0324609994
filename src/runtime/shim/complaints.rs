//! What libcontainer says when something fails. Its errors lose their reasons on the way out of the process that it forked;
//! what it tells its log has them, the innermost first. So the first complaint of a process goes into the report.
//! Never writes more than one line a process: nobody reads the pipe before the start is over.

use std::fmt::{Debug, Write as _};
use std::io::{PipeWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber, level_filters::LevelFilter};

/// Longest complaint; libcontainer prints whole structures.
const COMPLAINT_BYTES_MAX: usize = 1000;

/// Sends the first complaint of this process, and of each that it forks, into a pipe, from now on.
pub(super) fn send_to(report: Arc<PipeWriter>) {
    let listener = Listener {
        report,
        has_spoken: AtomicBool::new(false),
    };
    // A shim starts one process, so this is the first; a second would only go unheard.
    tracing::subscriber::set_global_default(listener).unwrap_or_default();
}

struct Listener {
    report: Arc<PipeWriter>,
    has_spoken: AtomicBool,
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn event(&self, event: &Event<'_>) {
        if self.has_spoken.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        // Without a reader there is nobody to complain to.
        (&*self.report)
            .write_all(words.line().as_bytes())
            .unwrap_or_default();
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A complaint's parts.
#[derive(Default)]
struct Words {
    message: String,
    rest: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.rest, " ({name} {value:?})"),
        }
        .unwrap_or_default();
    }
}

impl Words {
    fn line(&self) -> String {
        let mut line = format!("{}{}", self.message, self.rest).replace('\n', " ");
        line.truncate(line.floor_char_boundary(COMPLAINT_BYTES_MAX));
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Read;

    #[test]
    fn the_first_complaint_is_heard_and_no_second() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let listener = Listener {
            report: Arc::new(writer),
            has_spoken: AtomicBool::new(false),
        };
        tracing::subscriber::with_default(listener, || {
            tracing::warn!("not this");
            tracing::error!(path = "/x", "cannot\nmount");
            tracing::error!("nor this");
        });
        let mut heard = String::new();
        reader.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "cannot mount (path \"/x\")\n");
    }
}
