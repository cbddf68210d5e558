//! No order of events breaks a promise.

use hoist_wire::{Attempt, ChecksumKind, Crc64, ErrorCode, LinkSeq, OnChange, ReasonCode, State, Timestamp};
use proptest::prelude::*;

use super::*;

fn code() -> impl Strategy<Value = ErrorCode> {
    prop::sample::select(vec![
        ErrorCode::FileNotFound,
        ErrorCode::FileChanged,
        ErrorCode::AgentBusy,
        ErrorCode::FileLocked,
        ErrorCode::StorageRefused,
        ErrorCode::NeedsNewUpload,
        ErrorCode::OutsideHours,
        ErrorCode::Unknown,
    ])
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let text = || String::from("seen");
    prop_oneof![
        Just(Verdict::Proven { proof: ChecksumKind::Crc64nvme }),
        (0..1_000_000_i64).prop_map(move |at| Verdict::StillOpen {
            message: String::from("again"),
            retry_at: Timestamp(at)
        }),
        (1..9_u32).prop_map(|count| Verdict::PartsMissing { count }),
        Just(Verdict::Absent),
        (0..1_000_000_i64).prop_map(move |at| Verdict::Unclear { message: text(), retry_at: Timestamp(at) }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let who = || (1..4_u64, 0..5_u32).prop_map(|(l, a)| By { link: LinkSeq(l), attempt: Attempt(a) });
    let attempt = || (0..5_u32).prop_map(Attempt);
    let upload = Upload { part_size_bytes: 5 << 20, checksum: ChecksumKind::Crc64nvme };
    let text = || String::from("said");
    prop_oneof![
        4 => (1..4_u64, prop::option::of(attempt())).prop_map(|(l, continues)| Event::Dispatch { link: LinkSeq(l), continues }),
        1 => (1..4_u64).prop_map(|l| Event::LinkLost { link: LinkSeq(l) }),
        3 => (who(), 0..3_u64).prop_map(|(by, size_bytes)| Event::Offered { by, size_bytes }),
        3 => attempt().prop_map(move |attempt| Event::Opened { attempt, upload }),
        1 => (attempt(), 0..1_000_000_i64).prop_map(move |(attempt, at)| Event::NotOpened { attempt, message: text(), retry_at: Timestamp(at) }),
        1 => (attempt(), code()).prop_map(move |(attempt, code)| Event::Unfit { attempt, code, message: text() }),
        1 => attempt().prop_map(|attempt| Event::UploadGone { attempt }),
        1 => attempt().prop_map(|attempt| Event::KeyTaken { attempt }),
        1 => (who(), 0..9_u64).prop_map(move |(by, next_in_ms)| Event::Reported { by, code: ReasonCode::Sending, message: text(), next_in_ms }),
        1 => who().prop_map(|by| Event::Stored { by }),
        4 => (who(), 0..3_u64, 0..2_u64, 0..2_u64, 0..2_u32).prop_map(|(by, size_bytes, a, b, missing_parts)| {
            Event::Finished { by, size_bytes, crc64nvme: Crc64(a), combined: Crc64(b), missing_parts }
        }),
        1 => (who(), code(), prop::option::of(0..9_u64)).prop_map(move |(by, code, retry_after_ms)| Event::Refused { by, code, message: text(), retry_after_ms }),
        3 => (attempt(), verdict()).prop_map(|(attempt, verdict)| Event::Settled { attempt, verdict }),
        1 => Just(Event::Cancel { operator: String::from("ops") }),
        1 => Just(Event::Sweep),
    ]
}

/// What must hold in every record, whatever came before.
fn check_record(life: &Life) -> Result<(), TestCaseError> {
    prop_assert_eq!(life.reason.is_none(), life.state.is_final(), "only a final state has no reason");
    if let Some(reason) = &life.reason {
        prop_assert!(reason.next_at <= life.expires_at, "a wait never outlives the deadline");
        prop_assert!(!next_step(reason.code).is_empty() && !reason.message.is_empty());
    }
    prop_assert_eq!(
        life.proof.is_some(),
        life.state == State::Completed,
        "completed is proven, and nothing else is"
    );
    let ended_badly = matches!(life.state, State::Failed | State::Cancelled | State::Expired);
    prop_assert_eq!(life.failure.is_some(), ended_badly, "an end without an object says why");
    if matches!(life.state, State::Completing | State::Completed) {
        prop_assert!(life.crc64nvme.is_some() && life.upload.is_some() && life.size_bytes.is_some());
    }
    Ok(())
}

/// What must hold between a record and the next.
fn check_step(old: &Life, event: &Event, step: &Step) -> Result<(), TestCaseError> {
    let new = &step.life;
    prop_assert!(new.contradicted >= old.contradicted && new.contradicted <= MAX_CONTRADICTIONS);
    prop_assert!(!old.state.is_final(), "a final state never changes");
    prop_assert!(new.attempt >= old.attempt && new.link >= old.link && new.expires_at >= old.expires_at);
    if new.state == State::Completed {
        let proven = matches!(event, Event::Settled { verdict: Verdict::Proven { .. }, .. });
        prop_assert!(proven && old.state == State::Completing, "completed comes from proof alone");
    }
    if new.state == State::Completing && old.state != State::Completing {
        let whole = matches!(event, Event::Finished { crc64nvme, combined, missing_parts: 0, .. } if crc64nvme == combined);
        prop_assert!(whole, "nothing is completed without every part");
    }
    if new.state.is_final() {
        let settled_for = step.effects.contains(&Effect::Abort) != step.effects.contains(&Effect::Close);
        prop_assert!(settled_for, "an upload ends aborted or completed: {:?}", step.effects);
    }
    if old.state == State::Completing {
        let by_look_or_time = matches!(event, Event::Settled { .. } | Event::Sweep);
        prop_assert!(by_look_or_time, "no link event and no cancel moves what is completing");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_order_of_events_breaks_a_promise(
        events in prop::collection::vec((event(), 0..200_000_u64), 0..60),
        ttl in 1..2_000_u64,
        on_change in prop::sample::select(vec![OnChange::Restart, OnChange::Fail, OnChange::Prefix]),
    ) {
        let mut now = Timestamp(0);
        let mut life = Life::queued(now, Some(ttl), on_change);
        for (event, pause) in events {
            now = now.plus_ms(pause);
            check_record(&life)?;
            if let Ok(step) = life.step(event.clone(), now) {
                check_step(&life, &event, &step)?;
                life = step.life;
            }
        }
        check_record(&life)?;
        let end = life.expires_at.max(now);
        let swept = life.step(Event::Sweep, end);
        prop_assert!(life.state.is_final() || swept.is_ok_and(|step| step.life.state.is_final()), "the deadline ends it");
    }
}
