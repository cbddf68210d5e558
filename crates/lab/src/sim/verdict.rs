//! When all is mended and quiet: is every download final, and is what it says true?

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use hoist_server::store::Record;
use hoist_wire::{ErrorCode, OnChange, State};
use tokio::time::{Instant, sleep};

use super::bucket::open;
use super::fault::Fault;
use super::plan::Plan;

/// How long everything may take to come to rest. The longest way: a Complete that lands ten minutes late, looks that
/// lie ten minutes apart, a new pass, and the reaper's last look a grant's life after that; several times over.
const REST_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// Waits until nothing is left to do. What is not at rest by then is wrong.
pub(crate) async fn rest(plan: &Plan) {
    let end = Instant::now() + REST_WITHIN;
    let world = &plan.lasting.world;
    while Instant::now() < end {
        sleep(Duration::from_secs(10)).await;
        let open_left = plan.lasting.store.all().iter().any(|record| !record.life.state.is_final());
        if !open_left && plan.lasting.store.not_gone().is_empty() && !world.is_on_the_way() {
            world.trace("everything rests");
            return;
        }
    }
    for record in plan.lasting.store.all().iter().filter(|record| !record.life.state.is_final()) {
        let reason = &record.life.reason;
        world.wrong(format!("{} never ends: {} {reason:?}", record.id, record.life.state));
    }
    for row in plan.lasting.store.not_gone() {
        world.wrong(format!("an upload is never reaped: {row:?}"));
    }
}

/// Holds what the records say against what the bucket has.
pub(crate) fn judge(plan: &Plan, strangers: usize) {
    let world = &plan.lasting.world;
    let records = plan.lasting.store.all();
    for record in &records {
        if let Err(what) = judge_one(plan, record) {
            world.wrong(format!("{} is {}: {what}: {record:?}", record.id, record.life.state));
        }
    }
    let promised = plan.promised.lock().unwrap_or_else(PoisonError::into_inner);
    let states: BTreeMap<_, _> = records.iter().map(|record| (record.id, record.life.state)).collect();
    for id in promised.accepted.iter().filter(|id| !states.contains_key(id)) {
        world.wrong(format!("{id} was accepted and is not there"));
    }
    for id in promised.cancelled.iter().filter(|id| states.get(id) != Some(&State::Cancelled)) {
        world.wrong(format!("{id} was cancelled and is {:?}", states.get(id)));
    }
    let storage = open(&plan.lasting.storage);
    for (id, upload) in storage.uploads.iter().filter(|(_, upload)| !upload.is_foreign) {
        world.wrong(format!("{id} of {} is left open", upload.key));
    }
    let left = storage.uploads.values().filter(|upload| upload.is_foreign).count();
    if left != strangers {
        world.wrong(format!("{strangers} uploads of strangers were there, and {left} are left"));
    }
    let keys: Vec<_> = records.iter().filter_map(|record| record.object_key.as_ref()).collect();
    // What a Complete made that landed minutes late stays under the key that the download has left.
    let may_be_late = world.struck().contains_key(&Fault::BucketLate);
    let is_ours = |key: &String| records.iter().any(|record| key.contains(&record.id.to_string()));
    for key in storage.objects.keys().filter(|key| !keys.contains(key)) {
        if !(may_be_late && is_ours(key)) {
            world.wrong(format!("object {key} belongs to no download"));
        }
    }
}

fn judge_one(plan: &Plan, record: &Record) -> Result<(), String> {
    let storage = open(&plan.lasting.storage);
    let object = record.object_key.as_ref().and_then(|key| storage.objects.get(key));
    if record.life.state != State::Completed {
        let unproven = record.life.failure.as_ref().is_some_and(|it| it.code == ErrorCode::Unproven);
        // A Complete that lands minutes after its sender gave up cannot be called back: the object is ours and true, and
        // the download may have gone on and ended otherwise.
        let may_be_late = plan.lasting.world.struck().contains_key(&Fault::BucketLate);
        return match object {
            Some(_) if !unproven && !may_be_late => Err(String::from("its object is there")),
            Some(_) | None if record.life.failure.is_none() => Err(String::from("it does not say why")),
            Some(_) | None => Ok(()),
        };
    }
    let object = object.ok_or("its object is not there")?;
    if record.life.proof.is_none() {
        return Err(String::from("it says no proof"));
    }
    if object.head.write_token.as_ref() != Some(&record.write_token) {
        return Err(String::from("its object has another token"));
    }
    if Some(object.head.size_bytes) != record.life.size_bytes
        || Some(object.content.crc()) != record.life.crc64nvme
    {
        return Err(format!(
            "its object has {} bytes and CRC {}",
            object.head.size_bytes,
            object.content.crc()
        ));
    }
    let site = plan.sites.iter().find(|site| site.client_id == record.client_id).ok_or("nobody's file")?;
    let name = record.found.as_ref().map(|found| found.name.clone()).unwrap_or_default();
    let is_true = site.disk.past(&name).iter().any(|past| {
        let prefix = record.life.on_change == OnChange::Prefix;
        *past == object.content || prefix && object.content.is_prefix_of(past)
    });
    if is_true { Ok(()) } else { Err(String::from("no version of the file was ever this")) }
}
