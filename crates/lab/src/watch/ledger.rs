//! What crossed to the bucket before and after a death, part by part: only what was on its way may be sent again.

use std::collections::{BTreeMap, BTreeSet};

use super::steps::{Seen, Side};

/// What had happened at a death.
#[derive(Debug)]
pub struct Ledger {
    seen: Vec<Seen>,
    /// Whether the agent was among the dead: a server's death takes nothing from an agent that sends.
    agent_died: bool,
    /// Connections below this one were begun before it.
    connection: usize,
}

impl Ledger {
    /// Takes down what was seen when these were dead, and the number of the next connection to the bucket.
    pub fn at(seen: Vec<Seen>, dead: &[Side], connection: usize) -> Self {
        Self { seen, agent_died: dead.contains(&Side::Agent), connection }
    }

    /// Checks that nothing was sent again but what was on its way, and gives the bytes that were.
    ///
    /// # Panics
    /// If a part was.
    pub fn check(&self, seen: &[Seen], part_count: u16) -> usize {
        let confirmed: BTreeSet<u16> =
            self.seen.iter().filter(|seen| seen.status == Some(200)).filter_map(|seen| seen.part).collect();
        // A dead agent's last bytes may come late.
        let by_the_dead = |seen: &&Seen| self.agent_died && seen.connection < self.connection;
        let in_flight: BTreeSet<u16> = seen
            .iter()
            .filter(by_the_dead)
            .filter_map(|seen| seen.part)
            .filter(|part| !confirmed.contains(part))
            .collect();
        let mut puts: BTreeMap<u16, usize> = BTreeMap::new();
        for part in seen.iter().filter_map(|seen| seen.part) {
            *puts.entry(part).or_default() += 1;
        }
        assert_eq!(
            puts.len(),
            usize::from(part_count),
            "parts that the file does not have, or lacks: {puts:?}"
        );
        for (part, count) in &puts {
            let was = confirmed.contains(part);
            let most = if in_flight.contains(part) { 2 } else { 1 };
            assert!(
                *count <= most,
                "part {part} was sent {count} times, not {most}; confirmed before: {was}"
            );
        }
        let again = |seen: &&Seen| seen.part.is_some_and(|part| puts[&part] > 1) && !by_the_dead(seen);
        seen.iter().filter(again).map(|seen| seen.bytes).sum()
    }
}
