//! What a person sees on stderr while a command waits: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use hoist_wire::rest::Download;
use hoist_wire::{ReasonCode, State};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text;

/// Least time between two lines that say no more than how far it is.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Where progress is shown.
#[derive(Debug)]
pub(crate) struct Screen {
    bar: Option<ProgressBar>,
    said: Option<(State, Option<ReasonCode>)>,
    line_at: Option<Instant>,
}

impl Screen {
    /// Shows a bar when stderr is a terminal.
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:20}] {wide_msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, said: None, line_at: None }
    }

    /// Shows where a download is.
    pub(crate) fn show(&mut self, download: &Download) {
        let now = (download.state, download.reason);
        let changed = self.said.replace(now) != Some(now);
        if let Some(bar) = &self.bar {
            bar.set_length(download.size_bytes.unwrap_or(0));
            bar.set_position(download.sent_bytes);
            bar.set_message(text::standing(download));
            return;
        }
        if changed || self.due() {
            text::note(&text::standing(download));
            self.line_at = Some(Instant::now());
        }
    }

    /// Shows how much of an object is saved.
    pub(crate) fn saving(&mut self, done: u64, total: u64) {
        let line = || format!("saving: {} of {}", text::size(done), text::size(total));
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(line());
        } else if self.due() {
            text::note(&line());
            self.line_at = Some(Instant::now());
        }
    }

    /// Says something that stays.
    pub(crate) fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => text::note(line),
        }
    }

    fn due(&self) -> bool {
        self.line_at.is_none_or(|at| at.elapsed() >= LINE_INTERVAL)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
