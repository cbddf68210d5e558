//! The door of links: whether a newcomer gets one, asked before its handshake is answered.
//!
//! Deliberately absent: who it is (`http::agents`), and strangers: all this is for holders of a token.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hoist_wire::{ClientId, Instance};
use tokio::sync::Semaphore;
use tokio::sync::oneshot::Receiver;
use tokio::time::{Instant, timeout};

use super::pace::Pace;
use super::seat::{Claim, Face, NOTED_EVERY, Report};
use super::{LinkContext, Links, chain};

/// How long a link may take to answer when somebody else wants its place.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Most newcomers that wait for such an answer at once; each holds a connection meanwhile.
const MAX_WAITING: usize = 256;

/// How often a seat is looked at: a link that ends while it is asked leaves room for this newcomer, or for another one.
const LOOKS: usize = 3;

/// Why a newcomer gets no link now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It came too often.
    TooOften {
        /// When it may come again.
        wait: Duration,
    },
    /// Another agent has the client's link, and is alive.
    Taken,
    /// Too many others wait at the door.
    Crowded,
}

/// What the door itself has to remember.
#[derive(Debug)]
pub(super) struct Door {
    pace: Mutex<Pace>,
    waiting: Semaphore,
}

impl Default for Door {
    fn default() -> Self {
        Self { pace: Mutex::default(), waiting: Semaphore::new(MAX_WAITING) }
    }
}

impl Door {
    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a seat stands to a newcomer.
#[derive(Debug)]
enum Look {
    Free,
    /// Its link was asked whether it lives.
    Asked(Receiver<()>),
    /// Somebody else has asked, and waits for the answer or has just got it.
    Known,
}

impl LinkContext {
    /// Decides whether a newcomer gets a link. This may take 10 s, and holds nobody else up.
    ///
    /// # Errors
    /// The [`Refusal`]. One that may mean a clone is reported.
    pub async fn knock(&self, client: &ClientId, instance: Option<&Instance>) -> Result<(), Refusal> {
        let (refusal, report) = match self.links.admit(client, Face::of(instance)).await {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        if let Some(report) = report {
            self.report(client, instance, report).await;
        }
        Err(refusal)
    }

    /// Tells the log and the record that two agents are this client.
    async fn report(&self, client: &ClientId, refused: Option<&Instance>, report: Report) {
        let now = self.world.now();
        if report.note
            && let Err(error) = self.store.suspect_clone(client, refused, now, NOTED_EVERY).await
        {
            tracing::error!(client_id = %client, error = %chain(&error), "a clone is not recorded");
        }
        if report.log {
            let row = self.store.client(client).await.ok().flatten();
            let linked = row.and_then(|row| row.suspicion).and_then(|suspicion| suspicion.linked);
            let name =
                |it: Option<&Instance>| it.map_or_else(|| String::from("unknown"), ToString::to_string);
            tracing::warn!(
                event = "clone_suspected",
                client_id = %client,
                linked = name(linked.as_ref()),
                refused = name(refused),
                "two agents are this client: one has the link and answers, the other one is refused"
            );
        }
    }
}

impl Links {
    /// Lets a newcomer in, or refuses it; with a report where the refusal may mean a clone.
    async fn admit(&self, client: &ClientId, face: Face) -> Result<(), (Refusal, Option<Report>)> {
        let wait = self.door.pace().wait(client, Instant::now());
        if !wait.is_zero() {
            return Err((Refusal::TooOften { wait }, None));
        }
        self.seat_for(client, face).await?;
        self.door.pace().count(client, Instant::now());
        Ok(())
    }

    async fn seat_for(&self, client: &ClientId, face: Face) -> Result<(), (Refusal, Option<Report>)> {
        for _ in 0..LOOKS {
            let answer = match self.look(client, face) {
                Look::Free => return Ok(()),
                Look::Known => break,
                Look::Asked(answer) => answer,
            };
            let Ok(_place) = self.door.waiting.try_acquire() else { return Err((Refusal::Crowded, None)) };
            match timeout(ANSWER_WITHIN, answer).await {
                Ok(Ok(())) => {
                    let report = self.seats().get_mut(client).map(|seat| seat.suspect(Instant::now()));
                    return Err((Refusal::Taken, report));
                }
                // The link has ended meanwhile.
                Ok(Err(_)) => {}
                Err(_) => {
                    tracing::info!(client_id = %client, "a link does not answer: another agent takes its place");
                    return Ok(());
                }
            }
        }
        Err((Refusal::Taken, None))
    }

    fn look(&self, client: &ClientId, face: Face) -> Look {
        let mut seats = self.seats();
        let Some(seat) = seats.get_mut(client) else { return Look::Free };
        match seat.claim(face, Instant::now()) {
            Claim::AtOnce => Look::Free,
            Claim::AskFirst => seat.link.mailbox.ask().map_or(Look::Known, Look::Asked),
            Claim::No => Look::Known,
        }
    }
}

#[cfg(test)]
mod tests;
