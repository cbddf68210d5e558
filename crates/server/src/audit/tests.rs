use super::*;

#[test]
fn a_text_stands_on_one_line_and_is_bounded() {
    assert_eq!(plain("a\nb\u{1b}[31m\u{7}"), "a\\nb\\u{1b}[31m\\u{7}");
    assert_eq!(plain("größe"), "größe");
    let long = plain(&"ü".repeat(5_000));
    assert!(long.len() <= MAX_TEXT_BYTES + 3 && long.ends_with('…'));
    assert!(plain(&"\n".repeat(5_000)).len() <= MAX_TEXT_BYTES + 3);
}
