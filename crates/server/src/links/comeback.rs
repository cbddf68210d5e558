//! When agents that are told to go come back: spread, so that they do not all come in one second. Pure.

use std::time::Duration;

/// Agents that come back in one second. A handshake costs about a millisecond and two writes of the store, and requests
/// are waiting too.
const A_SECOND: f64 = 100.0;

/// Shortest time over which they are spread, in seconds: a restart takes some of it.
const SHORTEST_SECS: f64 = 10.0;

/// Longest time, in seconds: nobody's file should wait longer for a restart. 100,000 agents then come at 167 a second.
const LONGEST_SECS: f64 = 600.0;

/// Gives the wait of the `nth` (from 0) of so many agents; `chance` is evenly spread over 0.0..1.0.
///
/// Each has a slot of its own with chance only within it: independent draws would put half as many again into the
/// fullest second.
pub fn comeback(nth: usize, of: usize, chance: f64) -> Duration {
    let number = |value: usize| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
    let of = number(of.max(1));
    let window = (of / A_SECOND).clamp(SHORTEST_SECS, LONGEST_SECS);
    let place = ((number(nth) + chance) / of).clamp(0.0, 1.0);
    Duration::from_secs_f64(window * place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many come in each second, with the chance of a small generator (Numerical Recipes' constants).
    fn seconds(of: usize) -> Vec<usize> {
        let mut seed = 7_u32;
        let mut seconds = vec![0; 601];
        for nth in 0..of {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let wait = comeback(nth, of, f64::from(seed) / 4_294_967_296.0);
            seconds[usize::try_from(wait.as_secs()).unwrap()] += 1;
        }
        seconds
    }

    #[test]
    fn ten_thousand_agents_do_not_come_back_in_one_second() {
        let seconds = seconds(10_000);
        assert!(seconds.iter().all(|count| *count <= 101), "{seconds:?}");
        assert!(seconds[..100].iter().all(|count| *count >= 99), "spread over all of 100 s: {seconds:?}");
    }

    #[test]
    fn few_agents_are_back_soon_and_very_many_within_ten_minutes() {
        assert_eq!(seconds(20)[..10].iter().sum::<usize>(), 20);
        let many = seconds(200_000);
        assert_eq!(many.iter().sum::<usize>(), 200_000);
        assert!(many.iter().all(|count| *count <= 335), "{many:?}");
        for (nth, of, chance) in [(0, 0, 0.0), (0, 1, 1.0), (5, 1, 9.0), (usize::MAX, usize::MAX, 1.0)] {
            assert!(comeback(nth, of, chance) <= Duration::from_secs(600));
        }
    }
}
