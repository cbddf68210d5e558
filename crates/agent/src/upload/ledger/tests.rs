//! What is sent again and what never is.

use super::*;
use crate::upload::address::Endpoint;
use hoist_wire::limits::MIN_PART_SIZE_BYTES;

const MINUTE: Duration = Duration::from_secs(60);

fn number(n: u16) -> PartNumber {
    PartNumber::new(n).unwrap()
}

fn sums(n: u16) -> PartSums {
    PartSums { crc64nvme: Crc64(n.into()), md5: None }
}

fn checked() -> Checked {
    let endpoint = Endpoint { tls: true, host: "h".to_owned(), port: 443 };
    Checked { endpoint, target: "/".parse().unwrap(), headers: http::HeaderMap::new() }
}

/// A ledger of `parts` parts, all hashed.
fn ledger(parts: u16) -> Ledger {
    let plan = Plan::resume(u64::from(parts) * MIN_PART_SIZE_BYTES, MIN_PART_SIZE_BYTES).unwrap();
    let mut ledger = Ledger::new(plan);
    for n in 1..=parts {
        assert_eq!(ledger.next_to_hash(true).unwrap().0, number(n));
        assert!(ledger.next_to_hash(true).is_none());
        assert_eq!(ledger.hashed(number(n), sums(n)), Hashed::Ready);
    }
    assert!(ledger.next_to_hash(true).is_none());
    ledger
}

fn asked(ledger: &mut Ledger, most: usize, now: Instant) -> Vec<u16> {
    ledger.ask(most, now).iter().map(|part| part.number.get()).collect()
}

#[test]
fn parts_are_asked_granted_sent_and_told_once() {
    let (mut ledger, now) = (ledger(3), Instant::now());
    assert_eq!(asked(&mut ledger, 2, now), [1, 2]);
    ledger.grant(number(1), checked(), now + MINUTE);
    ledger.stored(number(2));
    ledger.stored(number(2));
    let (sent, held) = ledger.send().unwrap();
    assert!(sent == number(1) && !held.fresh_connection);
    // What is on its way is not moved by a late answer.
    ledger.grant(number(1), checked(), now + MINUTE);
    ledger.stored(number(1));
    assert!(ledger.send().is_none());
    ledger.sent(number(1), "tag");
    assert_eq!(ledger.take_untold().len(), 1);
    assert_eq!(ledger.take_untold().len(), 0);
    assert_eq!(ledger.confirmed_bytes(), 2 * MIN_PART_SIZE_BYTES);
    assert!(!ledger.is_complete());
    assert_eq!(asked(&mut ledger, 9, now), [3]);
    ledger.stored(number(3));
    assert!(ledger.is_complete());
    assert!(ledger.whole().is_some());
}

#[test]
fn what_is_too_old_is_asked_again() {
    let (mut ledger, now) = (ledger(3), Instant::now());
    assert_eq!(asked(&mut ledger, 9, now), [1, 2, 3]);
    ledger.grant(number(1), checked(), now + MINUTE);
    ledger.wait(number(2), now + Duration::from_secs(10));
    ledger.refresh(now);
    assert_eq!((ledger.ready(), ledger.supply()), (0, 3));
    assert_eq!(ledger.next_refresh(), Some(now + Duration::from_secs(10)));
    ledger.refresh(now + Duration::from_secs(10));
    assert_eq!(asked(&mut ledger, 9, now + Duration::from_secs(10)), [2]);
    // The grant of part 1 is old, and the others were never answered.
    ledger.refresh(now + MINUTE);
    assert_eq!(asked(&mut ledger, 9, now + MINUTE), [1, 2, 3]);
}

#[test]
fn a_grant_is_old_before_its_end_and_a_short_one_can_be_used() {
    let now = Instant::now();
    for (life_ms, usable_ms) in [(900_000, 895_000), (20_000, 15_000), (4_000, 3_000), (0, 0)] {
        let (life, usable) = (Duration::from_millis(life_ms), Duration::from_millis(usable_ms));
        assert_eq!(old_at(now, life), now + usable, "{life:?}");
    }
}

#[test]
fn after_a_reconnect_receipts_are_told_and_the_servers_word_is_asked_again() {
    let (mut ledger, now) = (ledger(4), Instant::now());
    assert_eq!(asked(&mut ledger, 3, now), [1, 2, 3]);
    ledger.grant(number(1), checked(), now + MINUTE);
    ledger.stored(number(2));
    ledger.send();
    ledger.sent(number(1), "tag");
    let receipts: Vec<u16> = ledger.reattach().iter().map(|receipt| receipt.number.get()).collect();
    assert_eq!(receipts, [1]);
    assert_eq!(ledger.take_untold().len(), 0);
    assert_eq!(asked(&mut ledger, 9, now), [2, 3, 4]);
    assert_eq!(ledger.confirmed_bytes(), MIN_PART_SIZE_BYTES);
}

#[test]
fn a_second_answer_that_comes_late_sends_nothing_again() {
    let (mut ledger, now) = (ledger(2), Instant::now());
    asked(&mut ledger, 9, now);
    assert!(ledger.grant(number(1), checked(), now + MINUTE));
    ledger.stored(number(2));
    ledger.send();
    ledger.sent(number(1), "tag");
    assert!(ledger.is_complete());
    assert!(!ledger.grant(number(1), checked(), now + MINUTE));
    assert!(!ledger.grant(number(2), checked(), now + MINUTE));
    assert!(ledger.is_complete() && ledger.send().is_none());
    // On a new link the server's word is asked for again, and may be another one.
    ledger.reattach();
    assert!(ledger.grant(number(2), checked(), now + MINUTE) && !ledger.is_complete());
}

#[test]
fn trouble_puts_a_part_back_where_it_belongs() {
    let (mut ledger, now) = (ledger(1), Instant::now());
    let one = number(1);
    asked(&mut ledger, 9, now);
    ledger.grant(one, checked(), now + MINUTE);
    ledger.send();
    ledger.again(one);
    assert!(ledger.send().unwrap().1.fresh_connection);
    ledger.hash_again(one);
    assert!(ledger.send().is_none());
    assert_eq!(ledger.next_to_hash(false).unwrap().0, one);
    assert_eq!(ledger.hashed(one, sums(1)), Hashed::Same);
    ledger.send();
    ledger.hash_again(one);
    ledger.next_to_hash(false);
    assert_eq!(ledger.hashed(one, sums(2)), Hashed::Changed);
}

#[test]
fn only_a_refusal_while_fresh_counts() {
    let (mut ledger, now) = (ledger(1), Instant::now());
    let one = number(1);
    for (was_old, refused_before) in [(true, false), (false, true)] {
        asked(&mut ledger, 9, now);
        ledger.grant(one, checked(), now + MINUTE);
        ledger.send();
        assert!(ledger.grant_state(one, now + MINUTE).0);
        ledger.grant_refused(one, was_old);
        assert_eq!(ledger.grant_state(one, now), (false, refused_before));
    }
}
