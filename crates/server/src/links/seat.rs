//! A client's one seat: which link has it, and who may take its place. Pure; time comes in as an argument.
//!
//! Deliberately absent: safety. A late link moves nothing because its `LinkSeq` is older, whoever sits here. This only
//! keeps two agents from throwing each other out for ever, and has somebody told.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use hoist_wire::Instance;
use tokio::time::Instant;

use super::LinkHandle;

/// How long a process is remembered whose place another one of its machine took. A restart never brings the old process
/// back, so one that comes back was copied: each is told to stay away for a minute, and may back off for another.
const TURNS_WITHIN: Duration = Duration::from_secs(10 * 60);

/// A log has one line for refusals that follow each other faster than this.
const EPISODE: Duration = Duration::from_secs(10 * 60);

/// So long an answer counts: an agent on a thin link is not pinged as often as a clone likes to knock.
const ANSWER_HOLDS: Duration = Duration::from_secs(5);

/// The record of a suspicion is written no more often than this.
pub(super) const NOTED_EVERY: Duration = Duration::from_secs(60);

/// Who is on a link: `Hoist-Instance`, hashed to 16 bytes. All agents that name no instance look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Face {
    machine: u64,
    process: u64,
}

impl Face {
    pub(super) fn of(instance: Option<&Instance>) -> Self {
        let (machine, process) = instance.map_or(("", ""), |it| (it.machine(), it.process()));
        Self { machine: fingerprint(machine), process: fingerprint(process) }
    }
}

/// Names a text in 8 bytes.
pub(super) fn fingerprint(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Whether a newcomer may take a seat that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// At once: it is the same machine again.
    AtOnce,
    /// Only if the link that has the seat does not answer.
    AskFirst,
    /// Not now: the link has just answered somebody else.
    No,
}

/// What a suspicion is worth: most of them were told already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    /// It is the first one for a while.
    pub(super) log: bool,
    /// The last record of it is old.
    pub(super) note: bool,
}

/// The seat of a client that has a link: 24 bytes more than the link itself, unless something odd has happened.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) link: Arc<LinkHandle>,
    face: Face,
    past: Option<Box<Past>>,
}

/// What only few seats have to remember.
#[derive(Debug, Default)]
struct Past {
    /// The process whose place was taken last by another one of its machine, and when it was last heard of.
    replaced: Option<(u64, Instant)>,
    suspected_at: Option<Instant>,
    noted_at: Option<Instant>,
}

impl Seat {
    /// Seats a link in the place of an older one.
    pub(super) fn take(link: Arc<LinkHandle>, face: Face, older: Option<Self>, now: Instant) -> Self {
        let Some(older) = older else { return Self { link, face, past: None } };
        let mut past = older.past;
        if older.face.machine == face.machine && older.face.process != face.process {
            past.get_or_insert_default().replaced = Some((older.face.process, now));
        }
        Self { link, face, past }
    }

    /// Judges a newcomer.
    pub(super) fn claim(&mut self, newcomer: Face, now: Instant) -> Claim {
        let suspected_at = self.past.as_ref().and_then(|past| past.suspected_at);
        let answered = suspected_at.is_some_and(|at| now - at < ANSWER_HOLDS);
        let claim = if answered { Claim::No } else { Claim::AskFirst };
        if newcomer.machine != self.face.machine {
            return claim;
        }
        let replaced = self.past.as_mut().and_then(|past| past.replaced.as_mut());
        match replaced {
            Some((process, at)) if *process == newcomer.process && now - *at < TURNS_WITHIN => {
                // As long as it keeps coming it is remembered, or the two would change places every ten minutes.
                *at = now;
                claim
            }
            Some(_) | None => Claim::AtOnce,
        }
    }

    /// Notes that a newcomer was refused while the link of this seat answered.
    pub(super) fn suspect(&mut self, now: Instant) -> Report {
        let past = self.past.get_or_insert_default();
        let older_than = |at: Option<Instant>, age| at.is_none_or(|at| now - at >= age);
        let report = Report {
            log: older_than(past.suspected_at, EPISODE),
            note: older_than(past.noted_at, NOTED_EVERY),
        };
        past.suspected_at = Some(now);
        if report.note {
            past.noted_at = Some(now);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::mailbox::Mailbox;
    use hoist_wire::LinkSeq;

    fn face(instance: &str) -> Face {
        Face::of(Some(&instance.parse().unwrap()))
    }

    fn sit(instance: &str, older: Option<Seat>, now: Instant) -> Seat {
        let client_id = "restaurant-1".parse().unwrap();
        let link = LinkHandle {
            client_id,
            seq: LinkSeq(1),
            mailbox: Mailbox::default(),
            on_change: None,
            stamp: crate::links::Stamp::Token(hoist_wire::Timestamp(0)),
        };
        Seat::take(Arc::new(link), face(instance), older, now)
    }

    fn after(secs: u64, start: Instant) -> Instant {
        start + Duration::from_secs(secs)
    }

    #[test]
    fn the_same_machine_takes_its_own_seat_at_once() {
        let now = Instant::now();
        let mut seat = sit("a.m", None, now);
        assert_eq!(seat.claim(face("a.m"), now), Claim::AtOnce, "a link that broke");
        assert_eq!(seat.claim(face("b.m"), now), Claim::AtOnce, "a restart");
        assert_eq!(seat.claim(face("b.n"), now), Claim::AskFirst, "another machine");
        assert_eq!(seat.claim(face("a.n"), now), Claim::AskFirst, "a machine with the same process id");
        assert_eq!(seat.claim(Face::of(None), now), Claim::AskFirst);
    }

    #[test]
    fn agents_that_name_no_instance_are_one_machine() {
        let (now, nobody) = (Instant::now(), Face::of(None));
        let mut seat = Seat { face: nobody, ..sit("a.m", None, now) };
        assert_eq!(seat.claim(nobody, now), Claim::AtOnce);
        assert_eq!(seat.claim(face("a.m"), now), Claim::AskFirst);
    }

    #[test]
    fn a_process_that_was_replaced_does_not_come_back_unasked() {
        let start = Instant::now();
        let seat = sit("b.m", Some(sit("a.m", None, start)), start);
        // The link of b breaks and comes back: what it knows of a stays.
        let mut seat = sit("b.m", Some(seat), after(30, start));
        assert_eq!(seat.claim(face("a.m"), after(60, start)), Claim::AskFirst);
        assert_eq!(seat.claim(face("c.m"), after(60, start)), Claim::AtOnce, "a third one is a restart");
        assert_eq!(seat.claim(face("a.m"), after(659, start)), Claim::AskFirst, "it was heard of meanwhile");
        assert_eq!(seat.claim(face("a.m"), after(2_000, start)), Claim::AtOnce, "no longer remembered");
    }

    #[test]
    fn a_link_that_has_just_answered_is_left_alone() {
        let start = Instant::now();
        let mut seat = sit("a.m", None, start);
        seat.suspect(start);
        assert_eq!(seat.claim(face("c.n"), after(4, start)), Claim::No);
        assert_eq!(seat.claim(face("b.m"), after(4, start)), Claim::AtOnce, "its own machine is no clone");
        assert_eq!(seat.claim(face("c.n"), after(5, start)), Claim::AskFirst);
    }

    #[test]
    fn an_episode_is_one_line_and_one_write_a_minute() {
        let start = Instant::now();
        let mut seat = sit("a.m", None, start);
        let hour = (0..60).map(|minute| after(60 * minute, start));
        let reports: Vec<Report> =
            hour.flat_map(|at| [at, after(30, at)]).map(|at| seat.suspect(at)).collect();
        assert_eq!(reports.iter().filter(|report| report.log).count(), 1);
        assert_eq!(reports.iter().filter(|report| report.note).count(), 60);
        assert!(seat.suspect(after(2 * 3600, start)).log, "a new episode");
    }

    #[test]
    fn a_seat_is_small() {
        assert!(size_of::<Seat>() <= 32, "{}", size_of::<Seat>());
    }
}
