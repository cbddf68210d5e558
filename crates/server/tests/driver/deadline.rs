//! The deadline: parts that are stored move it, and an agent that makes them up moves it for a year at most.

use std::time::Duration;

use hoist_wire::limits::{DEFAULT_TTL_SECS, MAX_TTL_SECS};

use crate::ctx::{Ctx, File};

const A_WEEK: Duration = Duration::from_secs(7 * 86_400);

#[tokio::test]
async fn receipts_that_are_made_up_keep_a_download_for_a_year_and_not_for_ever() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(1, Vec::new()).await;
    let id = ctx.ask(&server).await;
    let of = agent.fetch().await;
    let file = File((1..=60).collect());
    agent.offer(of, &file).await;
    agent.accept().await;
    let created_at = ctx.record(id).await.created_at;
    let longest = created_at.plus_secs(MAX_TTL_SECS);
    for part in file.parts() {
        ctx.clock.advance(A_WEEK);
        // At least: the clock goes on while the test runs.
        let moved = ctx.clock_now().plus_secs(DEFAULT_TTL_SECS).min(longest);
        if ctx.clock_now() >= longest {
            break;
        }
        // Nothing was sent: the receipt is all that there is.
        agent.receipts(of, vec![(part, "0".repeat(32))]).await;
        ctx.until(id, "moved", |record| record.life.expires_at >= moved).await;
    }
    assert_eq!(ctx.record(id).await.life.expires_at, longest);
}
