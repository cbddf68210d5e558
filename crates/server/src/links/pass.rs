//! What an agent showed for its link, and whether that still holds.

use hoist_wire::Timestamp;
use hoist_wire::claims::Claims;

use crate::store::Standing;
use crate::tokens::at;

/// What an agent showed when it opened its link.
#[derive(Debug, Clone)]
pub enum Pass {
    /// A token that the server signed.
    Token {
        /// What it says.
        claims: Claims,
        /// Names the secret that signed it.
        kid: String,
        /// Whether that is the secret that signs now.
        is_current: bool,
    },
    /// A proof by its own key.
    Key {
        /// The key, as the record has it.
        public_key: String,
    },
}

impl Pass {
    /// What must hold for as long as the link lives.
    pub fn stamp(&self) -> Stamp {
        match self {
            Self::Token { claims, .. } => Stamp::Token(at(claims.iat)),
            Self::Key { public_key } => Stamp::Key(public_key.clone().into()),
        }
    }
}

/// What a link stands on, in as few bytes as will do: there are many links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stamp {
    /// A token that was made then.
    Token(Timestamp),
    /// A key.
    Key(Box<str>),
}

impl Stamp {
    /// Tells whether a client that stands so may show this.
    pub fn holds(&self, standing: &Standing) -> bool {
        match (self, standing.public_key.as_deref()) {
            (Self::Token(made), None) => *made >= standing.tokens_not_before,
            (Self::Key(shown), Some(key)) => **shown == *key,
            // A client with a key shows no tokens: the weaker way is closed.
            (Self::Token(_), Some(_)) | (Self::Key(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_holds_for_its_own_key_and_for_tokens_that_are_young_enough() {
        let stands = |secs: u64, key: Option<&str>| Standing {
            tokens_not_before: at(secs),
            public_key: key.map(str::to_owned),
        };
        let (token, key) = (Stamp::Token(at(100)), Stamp::Key("key".into()));
        assert!(token.holds(&Standing::default()) && token.holds(&stands(100, None)));
        assert!(!token.holds(&stands(101, None)), "revoked");
        assert!(!token.holds(&stands(0, Some("key"))), "it has a key now");
        assert!(key.holds(&stands(500, Some("key"))));
        assert!(!key.holds(&stands(0, Some("new"))) && !key.holds(&stands(0, None)));
    }
}
