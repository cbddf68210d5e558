//! The check of a chain, line by line.

use std::collections::BTreeMap;

use super::{CUT, GENESIS, Head, Line, Sha256};

/// Where a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The line says something else than what was hashed.
    #[error("line {seq} was edited: its hash is not that of what it says")]
    Edited {
        /// Which.
        seq: u64,
    },
    /// Lines are missing, are there twice, or stand in another order.
    #[error("line {expected} is missing: line {found} stands in its place")]
    Gap {
        /// The line that had to come.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// The line does not go on from the one before it.
    #[error("line {seq} does not go on from the line before it: something was put in, taken out or replaced")]
    Torn {
        /// Which.
        seq: u64,
    },
    /// The line is of another node's chain.
    #[error("line {seq} belongs to the chain of another node, {node:?}")]
    Foreign {
        /// Which.
        seq: u64,
        /// Whose.
        node: String,
    },
    /// Old lines are gone, and no line of the chain says that retention cut them there.
    #[error(
        "the lines up to {0} are gone, and the trail does not say that retention cut them: somebody else did"
    )]
    UnsaidCut(Head),
    /// A head that was seen once is not in the chain.
    #[error("the trail ends at line {last}, before the head {head}: its tail was cut")]
    Short {
        /// What was seen once.
        head: Head,
        /// The last line.
        last: u64,
    },
    /// Another line stands where a head was seen.
    #[error("line {} is not the one that was seen: its hash is {found}, not {}", head.seq, head.hash)]
    Replaced {
        /// What was seen once.
        head: Head,
        /// What stands there.
        found: String,
    },
    /// A head is older than what is kept.
    #[error("the head {0} is older than what is kept: the trail can neither confirm nor deny it")]
    Forgotten(Head),
}

/// Checks a chain, line by line, oldest first.
#[derive(Debug)]
pub struct Chain {
    sha256: Sha256,
    node: Option<String>,
    last: Head,
    /// Where the kept lines begin; the heads at which cuts were said to end.
    cut: Option<Head>,
    said: Vec<String>,
    /// The heads that are looked for, and those that were found.
    heads: BTreeMap<u64, Vec<String>>,
}

impl Chain {
    /// Begins: behind what retention has cut, and looking for these heads.
    pub fn new(sha256: Sha256, cut: Option<Head>, heads: &[Head]) -> Self {
        let genesis = Head { seq: 0, hash: GENESIS.to_owned() };
        let mut wanted = BTreeMap::<u64, Vec<String>>::new();
        for head in heads {
            wanted.entry(head.seq).or_default().push(head.hash.clone());
        }
        let last = cut.clone().unwrap_or(genesis);
        Self { sha256, node: None, last, cut, said: Vec::new(), heads: wanted }
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// [`Broken`], where it does not belong there.
    pub fn take(&mut self, line: &Line) -> Result<(), Broken> {
        let seq = line.seq;
        if self.node.get_or_insert_with(|| line.node.clone()) != &line.node {
            return Err(Broken::Foreign { seq, node: line.node.clone() });
        }
        if seq != self.last.seq + 1 {
            return Err(Broken::Gap { expected: self.last.seq + 1, found: seq });
        }
        if line.computed(self.sha256) != line.hash {
            return Err(Broken::Edited { seq });
        }
        if line.prev != self.last.hash {
            return Err(Broken::Torn { seq });
        }
        if line.action == CUT {
            self.said.push(line.subject.clone());
        }
        self.last = Head { seq, hash: line.hash.clone() };
        self.check_heads(seq, &line.hash)
    }

    /// Tells whether retention has cut lines that were not read yet: then the check begins anew, behind the cut.
    pub fn is_overtaken(&self, cut: Option<&Head>) -> bool {
        cut.is_some_and(|cut| cut.seq > self.last.seq)
    }

    fn check_heads(&mut self, seq: u64, hash: &str) -> Result<(), Broken> {
        let wanted = self.heads.remove(&seq).unwrap_or_default();
        match wanted.into_iter().find(|wanted| wanted != hash) {
            Some(other) => Err(Broken::Replaced { head: Head { seq, hash: other }, found: hash.to_owned() }),
            None => Ok(()),
        }
    }

    /// Ends: every head must have been found, and every cut been said. Gives the last line.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn end(mut self) -> Result<Head, Broken> {
        if let Some(cut) = self.cut.take() {
            if !self.said.contains(&cut.to_string()) {
                return Err(Broken::UnsaidCut(cut));
            }
            // The last line that was cut is still known by its hash.
            self.check_heads(cut.seq, &cut.hash)?;
        }
        let last = self.last;
        match self.heads.into_iter().next() {
            Some((seq, hashes)) => {
                let head = Head { seq, hash: hashes.into_iter().next().unwrap_or_default() };
                let is_behind = seq > last.seq;
                Err(if is_behind { Broken::Short { head, last: last.seq } } else { Broken::Forgotten(head) })
            }
            None => Ok(last),
        }
    }
}
