//! Waiting for a condition, never for time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long most conditions may take: far more than they do, so that a busy machine fails no test.
pub const WITHIN: Duration = Duration::from_secs(60);

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` gives a value, and gives it.
///
/// # Panics
/// After `deadline`, with what was waited for and what was seen last.
pub async fn eventually<T, F>(what: &str, deadline: Duration, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let end = Instant::now() + deadline;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if Instant::now() >= end => {
                panic!("waited {deadline:?} for {what}; seen last: {seen}")
            }
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_gives_the_value_once_it_is_there() {
        let mut looks = 0;
        let value = eventually("the third look", WITHIN, || {
            looks += 1;
            let value = if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) };
            async { value }
        })
        .await;
        assert_eq!(value, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "for a miracle; seen last: nothing")]
    async fn it_says_what_it_waited_for() {
        eventually("a miracle", Duration::ZERO, || async { Err::<(), _>("nothing".to_owned()) }).await;
    }
}
