//! The rules that operators rely on, one by one.

use hoist_wire::{Attempt, ChecksumKind, Crc64, ErrorCode, LinkSeq, OnChange, ReasonCode, State, Timestamp};

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);
const UPLOAD: Upload = Upload { part_size_bytes: 5 << 20, checksum: ChecksumKind::Crc64nvme };
const CRC: Crc64 = Crc64(7);

/// A download that went through `events`, each of which must be accepted.
fn after(on_change: OnChange, events: &[Event]) -> Life {
    let mut life = Life::queued(NOW, None, on_change);
    for event in events {
        life = life.step(event.clone(), NOW).unwrap_or_else(|e| panic!("{event:?}: {e}")).life;
    }
    life
}

fn by(link: u64, attempt: u32) -> By {
    By { link: LinkSeq(link), attempt: Attempt(attempt) }
}

fn dispatch(link: u64) -> Event {
    Event::Dispatch { link: LinkSeq(link), continues: None }
}

fn finished(by: By) -> Event {
    Event::Finished { by, size_bytes: 10, crc64nvme: CRC, combined: CRC, missing_parts: 0 }
}

fn refused(by: By, code: ErrorCode) -> Event {
    Event::Refused { by, code, message: String::from("no"), retry_after_ms: None }
}

fn sending() -> Vec<Event> {
    vec![
        dispatch(1),
        Event::Offered { by: by(1, 1), size_bytes: 10 },
        Event::Opened { attempt: Attempt(1), upload: UPLOAD },
    ]
}

fn completing() -> Life {
    let mut events = sending();
    events.push(finished(by(1, 1)));
    after(OnChange::Restart, &events)
}

fn settled(verdict: Verdict) -> Event {
    Event::Settled { attempt: Attempt(1), verdict }
}

#[test]
fn the_straight_way_ends_completed() {
    let step = completing().step(settled(Verdict::Proven { proof: ChecksumKind::Crc64nvme }), NOW).unwrap();
    assert_eq!((step.life.state, step.life.reason.as_ref()), (State::Completed, None));
    assert_eq!(step.life.crc64nvme, Some(CRC));
    assert!(step.effects.contains(&Effect::Close) && !step.effects.contains(&Effect::Abort));
}

#[test]
fn an_agent_that_still_has_the_pass_goes_on_with_it() {
    let life = after(OnChange::Restart, &sending());
    let continued = Event::Dispatch { link: LinkSeq(2), continues: Some(Attempt(1)) };
    assert_eq!(life.step(continued, NOW).unwrap().life.attempt, Attempt(1));
    let restarted = life.step(dispatch(2), NOW).unwrap().life;
    assert_eq!(restarted.attempt, Attempt(2));
    assert_eq!(restarted.upload, Some(UPLOAD), "what is stored survives a new pass");
}

#[test]
fn an_older_link_or_attempt_moves_nothing() {
    let mut events = sending();
    events.push(dispatch(2));
    let life = after(OnChange::Restart, &events);
    for late in [
        finished(by(1, 1)),
        finished(by(2, 1)),
        finished(by(1, 2)),
        refused(by(1, 1), ErrorCode::FileNotFound),
    ] {
        assert_eq!(life.step(late, NOW), Err(Rejection::Stale));
    }
    assert_eq!(life.step(dispatch(1), NOW), Err(Rejection::Stale));
    assert_eq!(life.step(Event::LinkLost { link: LinkSeq(1) }, NOW), Err(Rejection::Stale));
}

#[test]
fn a_file_that_changes_is_read_three_times_at_most() {
    let mut life = after(OnChange::Restart, &[dispatch(1)]);
    for pass in 1..=2 {
        let step = life.step(refused(by(1, pass), ErrorCode::FileChanged), NOW).unwrap();
        assert!(step.effects.contains(&Effect::Fetch));
        life = step.life;
    }
    life = life.step(refused(by(1, 3), ErrorCode::FileChanged), NOW).unwrap().life;
    assert_eq!(life.state, State::Failed);
    assert_eq!(life.failure.unwrap().code, ErrorCode::FileChangesTooOften);
}

#[test]
fn a_changed_file_fails_where_the_request_wants_it() {
    for on_change in [OnChange::Fail, OnChange::Prefix] {
        let life = after(on_change, &[dispatch(1), refused(by(1, 1), ErrorCode::FileChanged)]);
        assert_eq!(life.failure.unwrap().code, ErrorCode::FileChanged);
    }
}

#[test]
fn the_site_chooses_only_what_the_request_leaves_open() {
    for (asked, of_the_site, taken) in [
        (None, None, OnChange::Restart),
        (None, Some(OnChange::Fail), OnChange::Fail),
        (Some(OnChange::Prefix), Some(OnChange::Fail), OnChange::Prefix),
        (Some(OnChange::Restart), None, OnChange::Restart),
    ] {
        let mut life = Life::queued(NOW, None, asked);
        life.choose(of_the_site);
        assert_eq!(life.on_change, taken, "{asked:?} and {of_the_site:?}");
    }
    // Another agent of the client may want something else.
    let mut life = Life::queued(NOW, None, None);
    life.choose(Some(OnChange::Fail));
    life.choose(None);
    assert_eq!(life.on_change, OnChange::Restart);
}

#[test]
fn a_refusal_for_now_is_asked_again_and_not_before_its_time() {
    let life = after(OnChange::Restart, &[dispatch(1), refused(by(1, 1), ErrorCode::AgentBusy)]);
    assert_eq!((life.state, life.reason.as_ref().unwrap().code), (State::Queued, ReasonCode::RefusedForNow));
    assert_eq!(life.step(dispatch(1), NOW), Err(Rejection::NotYet));
    assert!(life.step(dispatch(1), life.reason.as_ref().unwrap().next_at).is_ok());
}

#[test]
fn an_agent_that_wants_to_be_asked_at_once_is_asked_after_a_second() {
    let (code, message) = (ErrorCode::StorageRefused, String::from("no"));
    let refused = Event::Refused { by: by(1, 1), code, message, retry_after_ms: Some(0) };
    let life = after(OnChange::Restart, &[dispatch(1), refused]);
    assert_eq!(life.step(dispatch(1), NOW.plus_ms(999)), Err(Rejection::NotYet));
    assert!(life.step(dispatch(1), NOW.plus_ms(1_000)).is_ok());
}

#[test]
fn parts_that_do_not_add_up_are_never_completed() {
    for (size, combined, missing) in [(11, CRC, 0), (10, Crc64(8), 0), (10, CRC, 1)] {
        let mut events = sending();
        let by = by(1, 1);
        events.push(Event::Finished {
            by,
            size_bytes: size,
            crc64nvme: CRC,
            combined,
            missing_parts: missing,
        });
        assert_ne!(after(OnChange::Restart, &events).state, State::Completing);
    }
}

#[test]
fn no_link_event_moves_a_download_that_is_completing() {
    let life = completing();
    assert!(life.step(Event::LinkLost { link: LinkSeq(1) }, NOW).is_err());
    assert!(life.step(dispatch(2), NOW).is_err());
    assert!(life.step(refused(by(1, 1), ErrorCode::FileNotFound), NOW).is_err());
}

#[test]
fn an_absent_object_is_believed_when_seen_twice_a_minute_apart() {
    let first = completing().step(settled(Verdict::Absent), NOW).unwrap();
    assert_eq!(first.life.reason.as_ref().unwrap().code, ReasonCode::Verifying);
    let early = first.life.step(settled(Verdict::Absent), NOW.plus_ms(59_999)).unwrap();
    assert_eq!(early.life.state, State::Completing);
    let late = first.life.step(settled(Verdict::Absent), NOW.plus_ms(60_000)).unwrap();
    assert_eq!((late.life.state, late.life.upload), (State::Uploading, None));
    assert_eq!(late.effects, [Effect::Drop, Effect::Redispatch]);
}

#[test]
fn a_look_that_sees_something_else_in_between_starts_the_minute_again() {
    let unclear = Verdict::Unclear { message: String::from("HEAD: 500"), retry_at: NOW.plus_ms(5) };
    let life = completing().step(settled(Verdict::Absent), NOW).unwrap().life;
    let life = life.step(settled(unclear), NOW.plus_ms(10)).unwrap().life;
    let life = life.step(settled(Verdict::Absent), NOW.plus_ms(60_000)).unwrap().life;
    assert_eq!(life.state, State::Completing);
}

#[test]
fn an_agent_is_let_go_when_settling_takes_longer_than_a_moment() {
    let lets_go = |verdict, at| {
        let effects = completing().step(settled(verdict), at).unwrap().effects;
        effects.iter().any(|effect| matches!(effect, Effect::Forget { .. }))
    };
    let (message, late) = (|| String::from("503"), NOW.plus_secs(60));
    let open = || Verdict::StillOpen { message: message(), retry_at: late };
    assert!(!lets_go(open(), NOW), "most are settled at the second try");
    assert!(lets_go(open(), late));
    assert!(lets_go(Verdict::Unclear { message: message(), retry_at: late }, NOW));
    assert!(lets_go(Verdict::Absent, NOW));
}

#[test]
fn missing_parts_are_sent_again_in_the_same_upload() {
    let step = completing().step(settled(Verdict::PartsMissing { count: 2 }), NOW).unwrap();
    assert_eq!((step.life.state, step.life.upload), (State::Uploading, Some(UPLOAD)));
    assert_eq!(step.effects, [Effect::Redispatch]);
}

#[test]
fn parts_that_storage_denies_again_and_again_end_it_with_the_evidence() {
    let denied = settled(Verdict::PartsMissing { count: 2 });
    let mut life = completing();
    for times in 1..MAX_CONTRADICTIONS {
        life = life.step(denied.clone(), NOW).unwrap().life;
        assert_eq!((life.state, life.contradicted), (State::Uploading, times));
        life = life.step(finished(by(1, 1)), NOW).unwrap().life;
    }
    let step = life.step(denied, NOW).unwrap();
    let failure = step.life.failure.unwrap();
    assert_eq!((step.life.state, failure.code), (State::Failed, ErrorCode::ProtocolViolation));
    assert!(failure.message.contains("storage lacks 2 parts"), "{}", failure.message);
    assert!(step.effects.contains(&Effect::Abort));
}

#[test]
fn who_says_done_without_the_parts_is_asked_again_a_few_times_only() {
    let mut life = after(OnChange::Restart, &sending());
    let mut times = 0;
    while !life.state.is_final() {
        let who = By { link: LinkSeq(1), attempt: life.attempt };
        let done =
            Event::Finished { by: who, size_bytes: 10, crc64nvme: CRC, combined: CRC, missing_parts: 3 };
        life = life.step(done, NOW).unwrap().life;
        times += 1;
        if life.state == State::Queued {
            let again = Timestamp(NOW.0 + 60_000);
            life = life.step(dispatch(1), again).unwrap().life;
            let who = By { link: LinkSeq(1), attempt: life.attempt };
            life = life.step(Event::Offered { by: who, size_bytes: 10 }, NOW).unwrap().life;
        }
    }
    assert_eq!(times, MAX_CONTRADICTIONS);
    assert_eq!(life.failure.unwrap().code, ErrorCode::ProtocolViolation);
}

#[test]
fn parts_in_an_upload_that_vanished_count_for_nothing() {
    let step =
        after(OnChange::Restart, &sending()).step(Event::UploadGone { attempt: Attempt(1) }, NOW).unwrap();
    assert_eq!((step.life.attempt, step.life.upload), (Attempt(2), None));
    assert_eq!(step.effects, [Effect::Drop, Effect::Fetch]);
}

#[test]
fn an_upload_that_cannot_take_the_bytes_gives_way_to_another() {
    let mut events = sending();
    events.push(refused(by(1, 1), ErrorCode::NeedsNewUpload));
    let life = after(OnChange::Restart, &events);
    assert_eq!((life.state, life.upload, life.changed_passes), (State::Queued, None, 0));
    assert_eq!(life.reason.as_ref().unwrap().code, ReasonCode::UploadLost);
    let step =
        after(OnChange::Restart, &sending()).step(refused(by(1, 1), ErrorCode::NeedsNewUpload), NOW).unwrap();
    let forget = Effect::Forget { attempt: Attempt(1), outcome: hoist_wire::Outcome::Requeued };
    assert_eq!(step.effects, [Effect::Drop, forget, Effect::Redispatch]);
}

#[test]
fn an_object_under_the_key_is_never_uploaded_over() {
    let taken = Event::KeyTaken { attempt: Attempt(1) };
    let offered = after(OnChange::Restart, &sending()[..2]);
    let step = offered.step(taken.clone(), NOW).unwrap();
    assert_eq!(step.life.attempt, Attempt(1), "nothing was sent yet");
    assert_eq!(step.effects, [Effect::OpenUpload { at: NOW.plus_ms(1_000) }]);
    let step = after(OnChange::Restart, &sending()).step(taken.clone(), NOW).unwrap();
    assert_eq!((step.life.attempt, step.life.upload), (Attempt(2), None));
    assert_eq!(step.effects, [Effect::Drop, Effect::Fetch]);
    assert_eq!(completing().step(taken, NOW), Err(Rejection::Stale), "what completes has its key");
}

#[test]
fn what_cannot_be_verified_by_the_deadline_is_unproven() {
    let life = completing();
    let late = life.expires_at;
    assert_eq!(life.step(Event::Sweep, Timestamp(late.0 - 1)), Err(Rejection::NotYet));
    let failure = life.step(Event::Sweep, late).unwrap().life.failure.unwrap();
    assert_eq!(failure.code, ErrorCode::Unproven);
}

#[test]
fn a_cancel_answers_by_the_state() {
    let cancel = || Event::Cancel { operator: String::from("ops") };
    let queued = Life::queued(NOW, None, OnChange::Restart);
    for life in [queued, after(OnChange::Restart, &sending())] {
        let step = life.step(cancel(), NOW).unwrap();
        assert_eq!(step.life.state, State::Cancelled);
        assert!(step.effects.contains(&Effect::Abort));
        assert_eq!(step.life.step(cancel(), NOW), Err(Rejection::AlreadyCancelled));
    }
    assert_eq!(completing().step(cancel(), NOW), Err(Rejection::TooLate));
    let failed = after(OnChange::Restart, &[dispatch(1), refused(by(1, 1), ErrorCode::FileNotFound)]);
    assert_eq!(failed.step(cancel(), NOW), Err(Rejection::Final));
}

#[test]
fn every_stored_part_moves_the_deadline_and_never_back() {
    let life = after(OnChange::Restart, &sending());
    let later = NOW.plus_secs(3600);
    let moved = life.step(Event::Stored { by: by(1, 1) }, later).unwrap().life;
    assert_eq!(moved.expires_at, later.plus_secs(14 * 24 * 3600));
    let long = Life { expires_at: Timestamp(i64::MAX), ..life };
    assert_eq!(
        long.step(Event::Stored { by: by(1, 1) }, later).unwrap().life.expires_at,
        Timestamp(i64::MAX)
    );
}
