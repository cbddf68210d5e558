//! Tokens: signing and checking. HS256 with secrets that rotate by `kid`.
//!
//! Deliberately absent: who may do what. A token says who somebody is; routes say what they need.

use std::sync::Arc;
use std::time::Duration;

use hoist_wire::claims::Claims;
use hoist_wire::reach::Reach;
use hoist_wire::rest::Scope;
use hoist_wire::{AGENT_AUDIENCE, ClientId, OPERATOR_AUDIENCE, Sealed, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::clock::{World, random_id};

/// Longest token that is looked at, in bytes.
pub(crate) const MAX_TOKEN_BYTES: usize = 4096;

/// Why a token is not accepted. What it says is for the log and for whoever holds the token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not a token, not ours, or of another algorithm.
    #[error(
        "the token is not valid: it was not signed with this server's JWT_SECRET, or for another audience"
    )]
    Invalid,
    /// Its time has passed.
    #[error("the token expired at {0}: ask for a new one with `hoist token`")]
    Expired(Timestamp),
    /// Its time has not come.
    #[error("the token is not valid before {0}: is the clock of whoever made it right?")]
    Early(Timestamp),
    /// An agent's token whose subject is no client id.
    #[error("the token's subject is no client id")]
    Subject,
    /// It was made before its client was revoked.
    #[error("the token was made before client {0} was revoked: make a new one with `hoist token client {0}`")]
    Revoked(ClientId),
    /// Its client has a key of its own.
    #[error("client {0} has enrolled a key of its own: its tokens are no longer taken")]
    Keyed(ClientId),
    /// Signing failed.
    #[error("the token cannot be signed")]
    Signing(#[source] jsonwebtoken::errors::Error),
}

/// How far the clock of whoever made a token may be ahead, in seconds.
const MAX_SKEW_SECS: u64 = 300;

/// What an operator's token allows.
#[derive(Debug, Clone, Default)]
pub struct OperatorTerms {
    /// What the operator may do.
    pub scopes: Vec<Scope>,
    /// The clients that it reaches; none for all.
    pub clients: Option<Reach>,
    /// The operator's tokens that were made by then are refused.
    pub made_after_secs: Option<u64>,
}

struct Secret {
    /// Names the secret without telling it: eight hexadecimal digits of its SHA-256.
    kid: String,
    signs: EncodingKey,
    checks: DecodingKey,
}

/// A token that was accepted.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What it says.
    pub claims: Claims,
    /// Names the secret that signed it.
    pub kid: String,
}

/// From when on a token is valid.
#[derive(Debug, serde::Deserialize)]
struct Start {
    #[serde(default)]
    nbf: Option<u64>,
}

/// Signs and checks tokens.
pub struct Tokens {
    secrets: Vec<Secret>,
    world: Arc<dyn World>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Takes the secrets: the first signs, all check.
    pub fn new(secrets: &[SecretString], world: Arc<dyn World>) -> Self {
        let secret = |secret: &SecretString| {
            let bytes = secret.expose_secret().as_bytes();
            let kid = Sha256::digest(bytes).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            Secret { kid, signs: EncodingKey::from_secret(bytes), checks: DecodingKey::from_secret(bytes) }
        };
        Self { secrets: secrets.iter().map(secret).collect(), world }
    }

    /// Makes the token of an agent, as made at a moment that whoever revokes can compare.
    ///
    /// # Errors
    /// [`TokenError::Signing`].
    pub fn for_agent(
        &self,
        client: &ClientId,
        ttl: Duration,
        made: Timestamp,
    ) -> Result<(Sealed, Timestamp), TokenError> {
        self.sign(client.as_str(), AGENT_AUDIENCE, OperatorTerms::default(), ttl, made)
    }

    /// Makes the token of an operator.
    ///
    /// # Errors
    /// [`TokenError::Signing`].
    pub fn for_operator(
        &self,
        name: &str,
        terms: OperatorTerms,
        ttl: Duration,
    ) -> Result<(Sealed, Timestamp), TokenError> {
        self.sign(name, OPERATOR_AUDIENCE, terms, ttl, self.world.now())
    }

    fn sign(
        &self,
        sub: &str,
        aud: &str,
        terms: OperatorTerms,
        ttl: Duration,
        made: Timestamp,
    ) -> Result<(Sealed, Timestamp), TokenError> {
        let made = secs(made);
        let OperatorTerms { scopes, clients, made_after_secs } = terms;
        let iat = made_after_secs.map_or(made, |secs| made.max(secs.saturating_add(1)));
        let exp = made.saturating_add(ttl.as_secs());
        let jti = random_id(&*self.world);
        let claims = Claims { sub: sub.to_owned(), aud: aud.to_owned(), exp, iat, jti, scopes, clients };
        let Some(secret) = self.secrets.first() else { return Err(TokenError::Invalid) };
        let header = Header { kid: Some(secret.kid.clone()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &claims, &secret.signs).map_err(TokenError::Signing)?;
        Ok((Sealed::new(token), at(exp)))
    }

    /// Checks an agent's token.
    ///
    /// # Errors
    /// [`TokenError`] when it is not an agent's, not ours, or too old.
    pub fn agent(&self, token: &str) -> Result<(ClientId, Shown), TokenError> {
        let shown = self.check(token, AGENT_AUDIENCE)?;
        let client = shown.claims.sub.parse().map_err(|_| TokenError::Subject)?;
        Ok((client, shown))
    }

    /// Names the secret that signs now; empty where there is none.
    pub fn kid(&self) -> &str {
        self.secrets.first().map_or("", |secret| &secret.kid)
    }

    /// Checks an operator's token.
    ///
    /// # Errors
    /// [`TokenError`] when it is not an operator's, not ours, or too old.
    pub fn operator(&self, token: &str) -> Result<Claims, TokenError> {
        let Shown { claims, kid } = self.check(token, OPERATOR_AUDIENCE)?;
        // One that was made by a clock far ahead would outlive a revocation.
        if claims.iat > self.now_secs().saturating_add(MAX_SKEW_SECS) {
            return Err(TokenError::Early(at(claims.iat)));
        }
        if claims.clients.as_ref().is_some_and(|clients| clients.check().is_err()) {
            return Err(TokenError::Invalid);
        }
        if kid != self.kid() {
            tracing::info!(
                operator = claims.sub,
                jti = claims.jti,
                kid,
                "an operator's token is of an old secret"
            );
        }
        Ok(claims)
    }

    fn check(&self, token: &str, audience: &str) -> Result<Shown, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        // What is critical must be understood (RFC 7515, 4.1.11), and hoist understands none of it.
        if header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        // The algorithm is ours; the header may only choose among our secrets.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        validation.validate_exp = false;
        let named = |secret: &&Secret| header.kid.as_ref().is_none_or(|kid| *kid == secret.kid);
        let (secret, claims) = self
            .secrets
            .iter()
            .filter(named)
            .find_map(|secret| {
                Some((secret, decode::<Claims>(token, &secret.checks, &validation).ok()?.claims))
            })
            .ok_or(TokenError::Invalid)?;
        // Tokens of hoist have no such claim; whoever adds one means it.
        let start =
            decode::<Start>(token, &secret.checks, &validation).map_err(|_| TokenError::Invalid)?.claims;
        let now = self.now_secs();
        match start.nbf {
            Some(nbf) if nbf > now => Err(TokenError::Early(at(nbf))),
            Some(_) | None if claims.exp <= now => Err(TokenError::Expired(at(claims.exp))),
            Some(_) | None => Ok(Shown { claims, kid: secret.kid.clone() }),
        }
    }

    fn now_secs(&self) -> u64 {
        secs(self.world.now())
    }
}

/// Tells whether a token that was made then is refused, where those made by `revoked_secs` are.
pub fn is_revoked(made_secs: u64, revoked_secs: Option<u64>) -> bool {
    revoked_secs.is_some_and(|revoked| made_secs <= revoked)
}

/// Gives a moment as a token's time.
pub fn secs(moment: Timestamp) -> u64 {
    u64::try_from(moment.0 / 1000).unwrap_or(0)
}

/// Gives a token's time as a moment.
pub fn at(secs: u64) -> Timestamp {
    Timestamp::default().plus_secs(secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::RealWorld;

    const DAY: Duration = Duration::from_secs(86_400);

    fn tokens(secrets: &[&str]) -> Tokens {
        let secrets: Vec<_> = secrets.iter().map(|secret| SecretString::from(secret.repeat(32))).collect();
        Tokens::new(&secrets, Arc::new(RealWorld))
    }

    fn client() -> ClientId {
        "restaurant-1".parse().unwrap()
    }

    #[test]
    fn a_token_says_whose_it_is_and_only_there() {
        let tokens = tokens(&["a"]);
        let (agent, _) = tokens.for_agent(&client(), DAY, RealWorld.now()).unwrap();
        assert_eq!(tokens.agent(agent.open()).unwrap().0, client());
        assert!(tokens.operator(agent.open()).is_err());
        let terms = OperatorTerms { scopes: vec![Scope::Read], ..Default::default() };
        let (operator, _) = tokens.for_operator("ops", terms, DAY).unwrap();
        assert_eq!(tokens.operator(operator.open()).unwrap().scopes, [Scope::Read]);
        assert!(tokens.agent(operator.open()).is_err());
    }

    #[test]
    fn secrets_rotate() {
        let (before, _) = tokens(&["a"]).for_agent(&client(), DAY, RealWorld.now()).unwrap();
        let rotated = tokens(&["b", "a"]);
        let (_, shown) = rotated.agent(before.open()).unwrap();
        assert!(
            shown.kid == tokens(&["a"]).kid() && shown.kid != rotated.kid(),
            "it tells who uses an old one"
        );
        assert!(tokens(&["b"]).agent(before.open()).is_err());
    }

    #[test]
    fn a_token_without_kid_is_tried_with_every_secret() {
        let secret = "a".repeat(32);
        let claims = Claims {
            sub: String::from("restaurant-1"),
            aud: AGENT_AUDIENCE.to_owned(),
            exp: u64::MAX,
            iat: 0,
            jti: String::from("j"),
            scopes: Vec::new(),
            clients: None,
        };
        let sign =
            |header: &Header| encode(header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap();
        assert!(tokens(&["b", "a"]).agent(&sign(&Header::new(Algorithm::HS256))).is_ok());
        assert!(
            tokens(&["a"]).agent(&sign(&Header::new(Algorithm::HS512))).is_err(),
            "the algorithm is ours"
        );
    }

    #[test]
    fn what_a_token_says_beyond_hoists_own_is_heeded() {
        let now = RealWorld.now().0.unsigned_abs() / 1000;
        let key = EncodingKey::from_secret("a".repeat(32).as_bytes());
        let sign = |header: &Header, nbf: serde_json::Value| {
            let mut claims = serde_json::json!({
                "sub": "restaurant-1", "aud": AGENT_AUDIENCE, "exp": now + 600, "iat": now, "jti": "j"
            });
            if !nbf.is_null() {
                claims["nbf"] = nbf;
            }
            encode(header, &claims, &key).unwrap()
        };
        let plain = Header::new(Algorithm::HS256);
        let critical = Header { crit: Some(vec![String::from("b64")]), ..plain.clone() };
        let tokens = tokens(&["a"]);
        assert!(tokens.agent(&sign(&plain, serde_json::Value::Null)).is_ok());
        assert!(tokens.agent(&sign(&plain, (now - 1).into())).is_ok());
        assert!(matches!(tokens.agent(&sign(&plain, (now + 300).into())), Err(TokenError::Early(_))));
        assert!(matches!(tokens.agent(&sign(&plain, "tomorrow".into())), Err(TokenError::Invalid)));
        assert!(matches!(tokens.agent(&sign(&critical, serde_json::Value::Null)), Err(TokenError::Invalid)));
    }

    #[test]
    fn an_old_a_foreign_and_an_unsigned_token_are_refused() {
        let tokens = tokens(&["a"]);
        let (old, _) = tokens.for_agent(&client(), Duration::ZERO, RealWorld.now()).unwrap();
        assert!(matches!(tokens.agent(old.open()), Err(TokenError::Expired(_))));
        // {"alg":"none","typ":"JWT"} . {"sub":"restaurant-1","aud":"hoist-agent","exp":9999999999,"iat":0,"jti":"j"}
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJyZXN0YXVyYW50LTEiLCJhdWQiOiJob2lzdC1hZ2VudCIsImV4cCI6OTk5OTk5OTk5OSwiaWF0IjowLCJqdGkiOiJqIn0.";
        for bad in ["", "x", "a.b.c", none, &"x".repeat(5000)] {
            assert!(matches!(tokens.agent(bad), Err(TokenError::Invalid)), "{bad:.20}");
        }
    }
}
