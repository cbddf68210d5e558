//! The signer's credentials: fetched early enough, and with the hour of their end in sight.
//!
//! A URL signed with credentials dies with them. The SDK's own cache hands out what is left of them, ten seconds at
//! worst, and does not say how much that is. This one renews twenty minutes ahead, and tells.
//!
//! Deliberately absent: where credentials come from. That is the SDK's default chain, or two fixed values.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use tokio::sync::Mutex;

/// Life that credentials should have left: the longest grant, 15 minutes, and some.
const WANTED_LIFE: Duration = Duration::from_secs(20 * 60);

/// Least time between two fetches while the source has nothing that lives longer (IMDS renews late) …
const REFETCH_AFTER: Duration = Duration::from_secs(30);

/// … and when they end sooner than that. In between, half of what was left at the last fetch is waited.
const REFETCH_AT_LEAST_AFTER: Duration = Duration::from_secs(1);

/// A source of credentials, and the ones it gave last.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    source: SharedCredentialsProvider,
    held: Arc<Mutex<Option<Held>>>,
}

#[derive(Debug)]
struct Held {
    credentials: Credentials,
    fetched_at: SystemTime,
}

impl Held {
    /// Tells whether these do without asking the source again.
    fn is_good(&self, now: SystemTime) -> bool {
        let Some(life) = life_left(&self.credentials, now) else { return true };
        let age = now.duration_since(self.fetched_at).unwrap_or(REFETCH_AFTER);
        life >= WANTED_LIFE || (life > Duration::ZERO && age < self.patience())
    }

    /// Gives how long the source is left alone. Near their end they are asked for more often: a grant signed with the
    /// last second of old credentials, while there are new ones, is worth nothing.
    fn patience(&self) -> Duration {
        let left = life_left(&self.credentials, self.fetched_at).unwrap_or(WANTED_LIFE);
        (left / 2).clamp(REFETCH_AT_LEAST_AFTER, REFETCH_AFTER)
    }
}

impl Signer {
    pub(super) fn new(source: SharedCredentialsProvider) -> Self {
        Self { source, held: Arc::default() }
    }

    /// Gives the best credentials to be had now.
    ///
    /// # Errors
    /// What the source says, once nothing that is still alive is held.
    pub(super) async fn current(&self, now: SystemTime) -> provider::Result {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| held.is_good(now)) {
            return Ok(held.credentials.clone());
        }
        match self.source.provide_credentials().await {
            Ok(credentials) => {
                *held = Some(Held { credentials: credentials.clone(), fetched_at: now });
                Ok(credentials)
            }
            Err(error) => match held.as_mut() {
                Some(old) if life_left(&old.credentials, now) != Some(Duration::ZERO) => {
                    tracing::warn!(%error, "credentials could not be renewed, the old ones are used");
                    old.fetched_at = now;
                    Ok(old.credentials.clone())
                }
                Some(_) | None => Err(error),
            },
        }
    }
}

impl ProvideCredentials for Signer {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.current(SystemTime::now()))
    }
}

/// Gives how long credentials live from `now` on; none for those that never end, zero for those that have ended.
pub(super) fn life_left(credentials: &Credentials, now: SystemTime) -> Option<Duration> {
    credentials.expiry().map(|end| end.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use aws_credential_types::provider::error::CredentialsError;

    use super::*;

    /// Gives credentials that live for `life` from the epoch of the test, and fails from the `fails_from`th fetch on.
    #[derive(Debug, Clone)]
    struct Source {
        life: Duration,
        fails_from: u32,
        fetches: Arc<AtomicU32>,
    }

    impl ProvideCredentials for Source {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let fetch = self.fetches.fetch_add(1, Ordering::SeqCst);
            if fetch >= self.fails_from {
                return future::ProvideCredentials::ready(Err(CredentialsError::provider_error("down")));
            }
            let end = SystemTime::UNIX_EPOCH + self.life;
            future::ProvideCredentials::ready(Ok(Credentials::new("ak", "sk", None, Some(end), "test")))
        }
    }

    fn signer(life_secs: u64, fails_from: u32) -> (Signer, Arc<AtomicU32>) {
        let fetches = Arc::new(AtomicU32::new(0));
        let source = Source { life: Duration::from_secs(life_secs), fails_from, fetches: fetches.clone() };
        (Signer::new(SharedCredentialsProvider::new(source)), fetches)
    }

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    #[tokio::test]
    async fn credentials_are_renewed_twenty_minutes_before_their_end() {
        let (signer, fetches) = signer(3600, u32::MAX);
        for (now, expected) in [(0, 1), (2400, 1), (2401, 2)] {
            signer.current(at(now)).await.unwrap();
            assert_eq!(fetches.load(Ordering::SeqCst), expected, "at {now} s");
        }
    }

    #[tokio::test]
    async fn a_source_with_nothing_better_is_not_asked_for_every_grant() {
        let (signer, fetches) = signer(600, u32::MAX);
        for (now, expected) in [(0, 1), (29, 1), (30, 2), (31, 2)] {
            signer.current(at(now)).await.unwrap();
            assert_eq!(fetches.load(Ordering::SeqCst), expected, "at {now} s");
        }
    }

    #[tokio::test]
    async fn the_nearer_the_end_the_sooner_the_source_is_asked_again() {
        let (signer, fetches) = signer(40, u32::MAX);
        for (now, expected) in [(0, 1), (19, 1), (20, 2), (29, 2), (30, 3), (35, 4), (39, 5)] {
            signer.current(at(now)).await.unwrap();
            assert_eq!(fetches.load(Ordering::SeqCst), expected, "at {now} s");
        }
    }

    #[tokio::test]
    async fn credentials_outlive_a_source_that_is_down_but_not_their_own_end() {
        let (signer, _) = signer(600, 1);
        signer.current(at(0)).await.unwrap();
        let kept = signer.current(at(599)).await.unwrap();
        assert_eq!(life_left(&kept, at(599)), Some(Duration::from_secs(1)));
        assert!(signer.current(at(600)).await.is_err());
    }
}
