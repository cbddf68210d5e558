//! The deadline: parts that are stored move it, and an agent that makes them up moves it for a year at most.

use std::time::Duration;

use hoist_wire::limits::MAX_TTL_SECS;

use crate::ctx::{Ctx, File};

const A_DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn receipts_that_are_made_up_keep_a_download_for_a_year_and_not_for_ever() {
    let ctx = Ctx::new().await;
    let server = ctx.serve().await;
    let mut agent = server.agent(2, Vec::new()).await;
    let file = File(vec![1, 2]);
    // A year is the longest that may be asked for, and the longest that receipts give.
    for (ttl_secs, after) in [(None, 13), (Some(MAX_TTL_SECS), 360)] {
        let id = ctx.ask_for(&server, ttl_secs).await;
        let of = agent.fetch().await;
        agent.offer(of, &file).await;
        agent.accept().await;
        let record = ctx.record(id).await;
        let (created_at, before) = (record.created_at, record.life.expires_at);
        ctx.clock.advance(after * A_DAY);
        // Nothing was sent: the receipt is all that there is.
        agent.receipts(of, vec![(file.parts()[0], "0".repeat(32))]).await;
        let told = ctx.until(id, "told", |record| record.stored_bytes > 0).await.life.expires_at;
        match ttl_secs {
            None => assert!(told >= created_at.plus_secs(27 * 86_400) && before < told, "{told}"),
            Some(_) => assert_eq!((told, before), (created_at.plus_secs(MAX_TTL_SECS), told)),
        }
    }
}
