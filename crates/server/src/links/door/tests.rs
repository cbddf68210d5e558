//! The door on paused time, with links whose task is played by the test.

use std::sync::Arc;

use hoist_wire::LinkSeq;

use super::*;
use crate::links::LinkHandle;
use crate::links::mailbox::{Mailbox, Signal};

fn client() -> ClientId {
    "restaurant-1".parse().unwrap()
}

fn face(instance: &str) -> Face {
    Face::of(Some(&instance.parse().unwrap()))
}

/// Lets a link in, as after its `hello`.
fn enter(links: &Links, instance: &str, seq: u64) -> Arc<LinkHandle> {
    let link = Arc::new(LinkHandle {
        client_id: client(),
        seq: LinkSeq(seq),
        mailbox: Mailbox::default(),
        on_change: None,
        stamp: crate::links::Stamp::Token(hoist_wire::Timestamp(0)),
    });
    assert!(links.enter(&link, face(instance), Instant::now()));
    link
}

/// Waits until a link is asked whether it lives.
async fn asked(link: &LinkHandle) {
    let signal = std::future::poll_fn(|cx| {
        link.mailbox.listen(cx);
        link.mailbox.signal().map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    });
    assert_eq!(signal.await, Signal::Ask);
}

type Verdict = Result<(), (Refusal, Option<Report>)>;

fn is_taken(verdict: Verdict) -> Option<Report> {
    match verdict {
        Err((Refusal::Taken, report)) => report,
        other => panic!("the link is taken, and the door says {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_machine_gets_in_at_once_and_the_older_link_is_told() {
    let (links, start) = (Links::default(), Instant::now());
    let older = enter(&links, "a.m", 1);
    assert_eq!(links.admit(&client(), face("b.m")).await, Ok(()));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(older.mailbox.signal(), None, "nobody asks it, and nobody ends it before the other's hello");
    enter(&links, "b.m", 2);
    assert!(matches!(older.mailbox.signal(), Some(Signal::Close(_))));
}

#[tokio::test(start_paused = true)]
async fn a_live_link_keeps_its_seat_and_the_clone_is_reported_once() {
    let (links, start) = (Links::default(), Instant::now());
    let held = enter(&links, "a.m", 1);
    let mut reports = Vec::new();
    for _ in 0..3 {
        let (visitor, here) = (client(), face("a.n"));
        let (verdict, ()) = tokio::join!(links.admit(&visitor, here), async {
            asked(&held).await;
            held.mailbox.alive();
        });
        reports.extend(is_taken(verdict));
        assert_eq!(is_taken(links.admit(&visitor, here).await), None, "it has just answered");
        tokio::time::advance(Duration::from_secs(40)).await;
    }
    assert_eq!(start.elapsed(), Duration::from_secs(120), "an answer is not waited for longer than it takes");
    assert_eq!(reports.iter().map(|report| report.log).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(reports.iter().map(|report| report.note).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(held.mailbox.signal(), None);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_link_is_replaced_after_10_seconds() {
    let (links, start) = (Links::default(), Instant::now());
    let _held = enter(&links, "a.m", 1);
    assert_eq!(links.admit(&client(), face("a.n")).await, Ok(()));
    assert_eq!(start.elapsed(), ANSWER_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_ends_while_it_is_asked_leaves_room() {
    let (links, start) = (Links::default(), Instant::now());
    let held = enter(&links, "a.m", 1);
    let (visitor, here) = (client(), face("a.n"));
    let (verdict, ()) = tokio::join!(links.admit(&visitor, here), async {
        asked(&held).await;
        links.leave(&held);
        held.mailbox.over();
    });
    assert_eq!((verdict, start.elapsed()), (Ok(()), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_took_over_meanwhile_is_asked_in_its_turn() {
    let links = Links::default();
    let first = enter(&links, "a.m", 1);
    let (visitor, here) = (client(), face("a.n"));
    let (verdict, ()) = tokio::join!(links.admit(&visitor, here), async {
        asked(&first).await;
        let second = enter(&links, "b.m", 2);
        first.mailbox.over();
        asked(&second).await;
        second.mailbox.alive();
    });
    assert!(is_taken(verdict).is_some());
}

#[tokio::test(start_paused = true)]
async fn two_processes_of_one_machine_that_take_turns_are_clones() {
    let links = Links::default();
    enter(&links, "a.m", 1);
    assert_eq!(links.admit(&client(), face("b.m")).await, Ok(()));
    let second = enter(&links, "b.m", 2);
    tokio::time::advance(Duration::from_secs(90)).await;
    let (visitor, here) = (client(), face("a.m"));
    let (verdict, ()) = tokio::join!(links.admit(&visitor, here), async {
        asked(&second).await;
        second.mailbox.alive();
    });
    assert!(is_taken(verdict).is_some_and(|report| report.log && report.note));
    assert_eq!(links.get(&client()).unwrap().seq, LinkSeq(2));
}

#[tokio::test(start_paused = true)]
async fn one_newcomer_waits_for_a_link_and_the_next_is_refused() {
    let (links, visitor) = (Links::default(), client());
    let held = enter(&links, "a.m", 1);
    let mut first = Box::pin(links.admit(&visitor, face("a.n")));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert_eq!(is_taken(links.admit(&visitor, face("a.o")).await), None, "nobody knows yet");
    // The first one goes away: its place is free again.
    drop(first);
    let (verdict, ()) = tokio::join!(links.admit(&visitor, face("a.o")), async {
        asked(&held).await;
        held.mailbox.alive();
    });
    assert!(is_taken(verdict).is_some());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_bounded_and_hold_nobody_else_up() {
    let links = Links::default();
    let name = |n: usize| format!("restaurant-{n}").parse::<ClientId>().unwrap();
    let clients: Vec<ClientId> = (0..=MAX_WAITING).map(name).collect();
    for client_id in &clients {
        let (client_id, mailbox) = (client_id.clone(), Mailbox::default());
        links.enter(
            &Arc::new(LinkHandle {
                client_id,
                seq: LinkSeq(1),
                mailbox,
                on_change: None,
                stamp: crate::links::Stamp::Token(hoist_wire::Timestamp(0)),
            }),
            face("a.m"),
            Instant::now(),
        );
    }
    let mut waiting: Vec<_> =
        clients[1..].iter().map(|client| Box::pin(links.admit(client, face("a.n")))).collect();
    for newcomer in &mut waiting {
        assert!(futures_util::poll!(newcomer).is_pending());
    }
    assert_eq!(links.admit(&clients[0], face("a.n")).await, Err((Refusal::Crowded, None)));
    assert_eq!(links.admit(&clients[0], face("b.m")).await, Ok(()), "who need not wait gets in");
    assert_eq!(links.admit(&name(9_999), face("a.m")).await, Ok(()), "and so does who is alone");
    drop(waiting);
    assert_eq!(links.admit(&clients[0], face("a.n")).await, Ok(()), "nobody answers: after 10 s");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_flaps_waits_and_others_do_not() {
    let links = Links::default();
    let mut admitted = 0;
    let wait = loop {
        match links.admit(&client(), face("a.m")).await {
            Ok(()) => admitted += 1,
            Err((Refusal::TooOften { wait }, None)) => break wait,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(admitted, crate::links::pace::IN_A_ROW);
    assert_eq!(links.admit(&"restaurant-2".parse().unwrap(), face("a.m")).await, Ok(()));
    tokio::time::advance(wait).await;
    assert_eq!(links.admit(&client(), face("a.m")).await, Ok(()));
}
