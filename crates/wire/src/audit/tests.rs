//! What shows, and what does not.

use super::*;
use crate::Timestamp;

/// No hash at all, but different for different bytes of the same short test.
fn sum(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0_u8; 32];
    for (n, byte) in bytes.iter().enumerate() {
        let at = n % 32;
        out[at] = out[at].wrapping_mul(31).wrapping_add(*byte).wrapping_add(u8::try_from(n % 251).unwrap());
    }
    out
}

fn entry(what: &str) -> Entry {
    Entry {
        node: String::from("n"),
        at: Timestamp(1_795_521_600_123),
        action: String::from("download.request"),
        who: Some(String::from("ops")),
        token: None,
        from: Some(String::from("203.0.113.7")),
        subject: what.to_owned(),
        status: 202,
        code: None,
        detail: None,
        count: 1,
    }
}

fn chain(whats: &[&str]) -> Vec<Line> {
    let mut lines = Vec::<Line>::new();
    for what in whats {
        let prev = lines.last().map_or(GENESIS.to_owned(), |line| line.hash.clone());
        let seq = u64::try_from(lines.len()).unwrap() + 1;
        lines.push(Line::seal(entry(what), seq, prev, sum));
    }
    lines
}

fn check(lines: &[Line], cut: Option<Head>, heads: &[Head]) -> Result<Head, Broken> {
    let mut chain = Chain::new(sum, cut, heads);
    lines.iter().try_for_each(|line| chain.take(line))?;
    chain.end()
}

fn head(line: &Line) -> Head {
    Head { seq: line.seq, hash: line.hash.clone() }
}

#[test]
fn the_encoding_is_pinned() {
    let line = Line::seal(entry("/x"), 1, GENESIS.to_owned(), sum);
    let expected = format!(
        "13:hoist-audit-1,1:n,1:1,24:2026-11-24T12:00:00.123Z,16:download.request,3:ops,-,11:203.0.113.7,2:/x,\
         3:202,-,-,1:1,64:{GENESIS},"
    );
    assert_eq!(String::from_utf8(line.encoded()).unwrap(), expected);
}

#[test]
fn no_two_lines_are_encoded_alike() {
    let line = |who: Option<&str>, token: Option<&str>, subject: &str| {
        let entry = Entry { who: who.map(str::to_owned), token: token.map(str::to_owned), ..entry(subject) };
        Line::seal(entry, 1, GENESIS.to_owned(), sum).encoded()
    };
    let all = [
        line(None, None, "x"),
        line(Some(""), None, "x"),
        line(Some("-"), None, "x"),
        line(Some("-,"), None, "x"),
        line(None, Some("-"), "x"),
        line(Some("a,1:b"), None, "x"),
        line(Some("a"), Some("b"), "x"),
        line(None, None, "1:x,"),
    ];
    for (n, one) in all.iter().enumerate() {
        assert!(!all.iter().skip(n + 1).any(|other| one == other), "{n}");
    }
}

#[test]
fn a_whole_chain_holds_and_its_heads_are_found() {
    let lines = chain(&["a", "b", "c"]);
    let heads: Vec<Head> = lines.iter().map(head).collect();
    assert_eq!(check(&lines, None, &heads), Ok(head(&lines[2])));
    assert_eq!(check(&[], None, &[]).unwrap().seq, 0);
}

#[test]
fn whatever_is_done_to_the_middle_shows() {
    let whole = chain(&["a", "b", "c", "d"]);
    let mut edited = whole.clone();
    edited[1].who = Some(String::from("eve"));
    assert_eq!(check(&edited, None, &[]), Err(Broken::Edited { seq: 2 }));
    // Whoever knows the rule computes the hash anew; then the next line does not go on from it.
    edited[1].hash = edited[1].computed(sum);
    assert_eq!(check(&edited, None, &[]), Err(Broken::Torn { seq: 3 }));
    let mut deleted = whole.clone();
    deleted.remove(1);
    assert_eq!(check(&deleted, None, &[]), Err(Broken::Gap { expected: 2, found: 3 }));
    let mut swapped = whole.clone();
    swapped.swap(1, 2);
    assert!(check(&swapped, None, &[]).is_err());
    let mut inserted = whole.clone();
    inserted.insert(2, Line::seal(entry("x"), 3, whole[1].hash.clone(), sum));
    assert_eq!(check(&inserted, None, &[]), Err(Broken::Gap { expected: 4, found: 3 }));
    let mut foreign = whole;
    foreign[2].node = String::from("m");
    assert!(matches!(check(&foreign, None, &[]), Err(Broken::Foreign { seq: 3, .. })));
}

#[test]
fn a_cut_tail_and_a_chain_made_anew_show_by_a_head() {
    let whole = chain(&["a", "b", "c"]);
    let seen = [head(&whole[2])];
    assert!(check(&whole[..2], None, &[]).is_ok(), "without a head nobody can tell");
    assert!(matches!(check(&whole[..2], None, &seen), Err(Broken::Short { last: 2, .. })));
    let anew = chain(&["a", "b", "other"]);
    assert!(matches!(check(&anew, None, &seen), Err(Broken::Replaced { .. })));
}

#[test]
fn what_retention_cut_is_told_from_what_somebody_else_cut() {
    let mut whole = chain(&["a", "b", "c"]);
    let cut = head(&whole[1]);
    let said = Entry { action: CUT.to_owned(), ..entry(&cut.to_string()) };
    whole.push(Line::seal(said, 4, whole[2].hash.clone(), sum));
    let kept = &whole[2..];
    assert!(check(kept, Some(cut.clone()), &[cut.clone(), head(&whole[3])]).is_ok());
    assert_eq!(check(&kept[1..], Some(head(&whole[2])), &[]), Err(Broken::UnsaidCut(head(&whole[2]))));
    assert_eq!(check(kept, None, &[]), Err(Broken::Gap { expected: 1, found: 3 }));
    let old = head(&whole[0]);
    assert_eq!(check(kept, Some(cut), std::slice::from_ref(&old)), Err(Broken::Forgotten(old)));
}

#[test]
fn a_head_is_read_as_it_is_written() {
    let head = Head { seq: 7, hash: "ab".repeat(32) };
    assert_eq!(head.to_string().parse(), Ok(head));
    for bad in ["", "7", "7:", "x:ab", "7:zz", "-1:ab"] {
        assert!(bad.parse::<Head>().is_err(), "{bad}");
    }
}

#[test]
fn a_cut_while_the_trail_is_read_is_no_gap() {
    let lines = chain(&["one", "two", "three", "four", "five"]);
    let head = |n: usize| Head { seq: lines[n].seq, hash: lines[n].hash.clone() };
    let mut first = Chain::new(sum, None, &[]);
    first.take(&lines[0]).unwrap();
    assert!(!first.is_overtaken(None) && !first.is_overtaken(Some(&head(0))));
    assert!(first.is_overtaken(Some(&head(2))), "two and three went meanwhile");
    assert!(first.take(&lines[3]).is_err());
    let mut again = Chain::new(sum, Some(head(2)), &[]);
    assert!(!again.is_overtaken(Some(&head(2))));
    again.take(&lines[3]).unwrap();
}
