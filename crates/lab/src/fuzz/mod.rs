//! What is fuzzed: one function for each target, which takes any bytes and panics where a promise breaks.
//!
//! `fuzz/` at the root drives them with libFuzzer; a test replays what it found worth keeping (`fuzz/corpus`), so that
//! nothing but cargo is needed to see that a mended finding stays mended.
//!
//! Deliberately absent: randomness, and anything that waits.

mod grant;
mod key;
mod messages;
mod policy;
mod token;

/// A target: its name, as in `fuzz/fuzz_targets` and `fuzz/corpus`, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. Whoever adds one adds its file and its corpus; a test looks for both.
pub const TARGETS: &[Target] = &[
    ("grant", grant::grant),
    ("key", key::key),
    ("policy", policy::policy),
    ("to_agent", messages::to_agent),
    ("to_server", messages::to_server),
    ("token", token::token),
];

/// Runs one target.
///
/// # Panics
/// If there is none of that name, or if the bytes break a promise.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    let (_, run) = target.unwrap_or_else(|| panic!("no fuzz target is called {name:?}"));
    run(bytes);
}

/// Cuts bytes into texts at each NUL, the last taking the rest; missing ones are empty.
fn texts<const N: usize>(bytes: &[u8]) -> Option<[&str; N]> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut pieces = text.splitn(N, '\0');
    Some(std::array::from_fn(|_| pieces.next().unwrap_or_default()))
}
