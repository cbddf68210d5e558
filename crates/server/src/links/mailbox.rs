//! What waits for a link's task: messages for the agent, and signals. It costs an idle link almost nothing.
//!
//! A channel would set a block of slots aside for each link; at 100,000 links that is more than all else together.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;
use hoist_wire::DownloadId;
use hoist_wire::limits::MAX_QUEUED_TO_AGENT;
use hoist_wire::to_agent::{Goodbye, GoodbyeReason, ToAgent};
use tokio::sync::oneshot;

/// Something that a link's task must do besides sending messages.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Look for downloads to start.
    Nudge,
    /// Find out whether the agent is there: somebody else wants its place.
    Ask,
    /// These downloads no longer take a slot.
    Freed(Vec<DownloadId>),
    /// Say goodbye and end.
    Close(Goodbye),
}

/// A bounded queue of messages, and the signals.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    bell: AtomicWaker,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<ToAgent>,
    nudged: bool,
    freed: Vec<DownloadId>,
    close: Option<Goodbye>,
    asked: bool,
    /// Whoever waits to hear that the agent is there.
    asker: Option<oneshot::Sender<()>>,
}

impl Mailbox {
    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.wake();
    }

    pub(super) fn say(&self, message: ToAgent) {
        self.change(|waiting| {
            if waiting.messages.len() < MAX_QUEUED_TO_AGENT {
                waiting.messages.push_back(message);
            } else {
                waiting.close.get_or_insert_with(slow_reader);
            }
        });
    }

    pub(super) fn nudge(&self) {
        self.change(|waiting| waiting.nudged = true);
    }

    pub(super) fn free(&self, download: DownloadId) {
        self.change(|waiting| {
            if !waiting.freed.contains(&download) {
                waiting.freed.push(download);
            }
        });
    }

    pub(super) fn close(&self, goodbye: Goodbye) {
        self.change(|waiting| {
            waiting.close.get_or_insert(goodbye);
        });
    }

    /// Has the link find out whether its agent is there. What comes back is told as soon as it is heard of; where the link
    /// ends instead, it breaks. None while somebody else waits for that.
    pub(super) fn ask(&self) -> Option<oneshot::Receiver<()>> {
        let mut answer = None;
        self.change(|waiting| {
            if waiting.asker.as_ref().is_none_or(oneshot::Sender::is_closed) {
                let (asker, told) = oneshot::channel();
                (waiting.asked, waiting.asker, answer) = (true, Some(asker), Some(told));
            }
        });
        answer
    }

    /// Tells whoever waits for it that the agent is there.
    pub(super) fn alive(&self) {
        let asker = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).asker.take();
        if let Some(asker) = asker {
            // Who no longer waits needs no answer.
            let _ = asker.send(());
        }
    }

    /// Tells whoever waits that the link has ended.
    pub(super) fn over(&self) {
        drop(self.waiting.lock().unwrap_or_else(PoisonError::into_inner).asker.take());
    }

    /// Has the task woken by the next change.
    pub(super) fn listen(&self, cx: &Context<'_>) {
        self.bell.register(cx.waker());
    }

    /// Takes the next message.
    pub(super) fn message(&self) -> Option<ToAgent> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).messages.pop_front()
    }

    /// Takes the next signal. Slots are freed before they are filled.
    pub(super) fn signal(&self) -> Option<Signal> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(goodbye) = waiting.close.take() {
            Some(Signal::Close(goodbye))
        } else if std::mem::take(&mut waiting.asked) {
            Some(Signal::Ask)
        } else if !waiting.freed.is_empty() {
            Some(Signal::Freed(std::mem::take(&mut waiting.freed)))
        } else {
            std::mem::take(&mut waiting.nudged).then_some(Signal::Nudge)
        }
    }
}

fn slow_reader() -> Goodbye {
    Goodbye {
        reason: GoodbyeReason::SlowReader,
        message: format!("more than {MAX_QUEUED_TO_AGENT} messages wait for this agent"),
        reconnect_after_ms: 5_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_wire::to_server::Unsupported;

    #[test]
    fn a_slow_reader_is_closed_and_not_buffered() {
        let mailbox = Mailbox::default();
        for _ in 0..=MAX_QUEUED_TO_AGENT {
            mailbox.say(ToAgent::Unsupported(Unsupported { kind: String::from("x") }));
        }
        assert!(
            matches!(mailbox.signal(), Some(Signal::Close(goodbye)) if goodbye.reason == GoodbyeReason::SlowReader)
        );
        assert_eq!(std::iter::from_fn(|| mailbox.message()).count(), MAX_QUEUED_TO_AGENT);
    }

    #[test]
    fn many_nudges_are_one() {
        let mailbox = Mailbox::default();
        mailbox.nudge();
        mailbox.nudge();
        assert_eq!((mailbox.signal(), mailbox.signal()), (Some(Signal::Nudge), None));
    }
}
