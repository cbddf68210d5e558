//! A bucket in memory whose answers a test can script, call by call.
//!
//! Deliberately absent: bytes. A part is its checksum and its length, and an object what HEAD says of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use hoist_server::bucket::{
    Bucket, BucketError, CompleteReply, CompleteRequest, GrantRequest, ListedPart, MultipartId, ObjectHead,
    ObjectMeta, Probe, WRITE_TOKEN_KEY,
};
use hoist_wire::to_agent::Grant;
use hoist_wire::{ChecksumKind, Crc64, PartNumber, Sealed};
use tokio::sync::Semaphore;

/// What one call does instead of its work.
#[derive(Debug, Clone)]
pub(crate) enum Turn {
    /// Nothing is done, and nobody can tell.
    Unclear,
    /// It is done, and the answer is lost.
    LoseReply,
    /// It is done, and no answer comes while the caller lives.
    NeverAnswer,
    /// It is done when the test lets it, by a permit.
    Wait(Arc<Semaphore>),
    /// Nobody can tell, and a Complete is done only when the test says so, whatever became of its upload.
    Late,
    /// HEAD does not see the object, though it is there.
    Hide,
}

#[derive(Debug, Clone)]
struct Upload {
    key: String,
    token: Option<String>,
    parts: BTreeMap<PartNumber, ListedPart>,
}

#[derive(Debug, Default)]
struct State {
    uploads: BTreeMap<String, Upload>,
    objects: BTreeMap<String, ObjectHead>,
    /// What late Completes will make.
    late: Vec<(String, ObjectHead)>,
    script: HashMap<&'static str, VecDeque<Turn>>,
    calls: HashMap<&'static str, u32>,
    made: u32,
    twins: bool,
}

/// The bucket.
#[derive(Debug, Default)]
pub(crate) struct FakeBucket(Mutex<State>);

impl FakeBucket {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Has the next call of this name go otherwise.
    pub(crate) fn script(&self, call: &'static str, turn: Turn) {
        self.state().script.entry(call).or_default().push_back(turn);
    }

    /// How often a call was made.
    pub(crate) fn calls(&self, call: &'static str) -> u32 {
        self.state().calls.get(call).copied().unwrap_or(0)
    }

    /// How many uploads are open.
    pub(crate) fn open_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// How many objects there are.
    pub(crate) fn objects(&self) -> usize {
        self.state().objects.len()
    }

    /// Has the late Completes make their objects now.
    pub(crate) fn land(&self) {
        let mut state = self.state();
        let late = std::mem::take(&mut state.late);
        assert!(!late.is_empty(), "no Complete was late");
        state.objects.extend(late);
    }

    /// Puts what somebody else would put under a key.
    pub(crate) fn put_foreign(&self, key: &str) {
        let write_token = Some(String::from("somebody else's"));
        let head = ObjectHead { size_bytes: 1, write_token, etag: None, crc64nvme: None };
        self.state().objects.insert(key.to_owned(), head);
    }

    /// Gives what HEAD says of a key.
    pub(crate) fn object(&self, key: &str) -> Option<ObjectHead> {
        self.state().objects.get(key).cloned()
    }

    /// Gives all objects by key.
    pub(crate) fn all_objects(&self) -> BTreeMap<String, ObjectHead> {
        self.state().objects.clone()
    }

    /// Loses all uploads, as a lifecycle rule does.
    pub(crate) fn lose_uploads(&self) {
        self.state().uploads.clear();
    }

    /// Lists, beside each part, what was put under its number before (as SeaweedFS 4.48 does).
    pub(crate) fn list_twins(&self) {
        self.state().twins = true;
    }

    /// Does what an agent's PUT would do, and gives the ETag.
    pub(crate) fn put(&self, grant: &Grant) -> Option<String> {
        let (upload, rest) = grant.url.open().strip_prefix("fake:")?.split_once(':')?;
        let mut fields = rest.split(':').map(|field| field.parse::<u64>().unwrap());
        let (number, size_bytes, crc) = (fields.next()?, fields.next()?, fields.next()?);
        let number = PartNumber::new(u16::try_from(number).unwrap()).unwrap();
        let etag = format!("etag-{crc:x}");
        let part = ListedPart { number, size_bytes, etag: etag.clone(), crc64nvme: Some(Crc64(crc)) };
        self.state().uploads.get_mut(upload)?.parts.insert(number, part);
        Some(etag)
    }

    fn is_next(&self, call: &'static str, is: fn(&Turn) -> bool) -> bool {
        self.state().script.get(call).and_then(VecDeque::front).is_some_and(is)
    }

    /// Has a PUT that was on its way at the abort succeed all the same.
    pub(crate) fn revive(&self, grant: &Grant) {
        let upload = grant.url.open().strip_prefix("fake:").and_then(|rest| rest.split_once(':')).unwrap().0;
        let upload_again = Upload { key: String::from("late"), token: None, parts: BTreeMap::new() };
        self.state().uploads.insert(upload.to_owned(), upload_again);
    }

    /// Makes a call as it is scripted.
    async fn call<T>(
        &self,
        call: &'static str,
        key: &str,
        work: impl FnOnce(&mut State) -> Result<T, BucketError>,
    ) -> Result<T, BucketError> {
        let turn = {
            let mut state = self.state();
            *state.calls.entry(call).or_default() += 1;
            state.script.get_mut(call).and_then(VecDeque::pop_front)
        };
        let unclear =
            || BucketError::Unclear { call, key: key.to_owned(), message: String::from("scripted") };
        match turn {
            None | Some(Turn::Hide) => work(&mut self.state()),
            Some(Turn::Unclear | Turn::Late) => Err(unclear()),
            Some(Turn::LoseReply) => work(&mut self.state()).and_then(|_| Err(unclear())),
            Some(Turn::NeverAnswer) => {
                let done = work(&mut self.state());
                done.and(std::future::pending().await)
            }
            Some(Turn::Wait(permits)) => {
                permits.acquire().await.unwrap().forget();
                work(&mut self.state())
            }
        }
    }
}

fn no_such_upload(call: &'static str, key: &str) -> BucketError {
    BucketError::NoSuchUpload { call, key: key.to_owned() }
}

#[async_trait]
impl Bucket for FakeBucket {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn probe(&self, _create: bool) -> Result<Probe, BucketError> {
        Ok(Probe { checksum: ChecksumKind::Crc64nvme, checks: Vec::new() })
    }

    async fn create_upload(
        &self,
        key: &str,
        meta: &ObjectMeta,
        _checksum: ChecksumKind,
    ) -> Result<MultipartId, BucketError> {
        let token = meta.metadata.get(WRITE_TOKEN_KEY).cloned();
        let upload = Upload { key: key.to_owned(), token, parts: BTreeMap::new() };
        let work = |state: &mut State| {
            state.made += 1;
            let id = format!("up-{}", state.made);
            state.uploads.insert(id.clone(), upload);
            Ok(MultipartId(id))
        };
        self.call("create_upload", key, work).await
    }

    async fn grant_part(&self, request: GrantRequest<'_>) -> Result<Grant, BucketError> {
        let (upload, number) = (&request.multipart_id.0, request.number);
        let url = format!("fake:{upload}:{number}:{}:{}", request.size_bytes, request.sums.crc64nvme.0);
        let grant = Grant { url: Sealed::new(url), headers: BTreeMap::new(), expires_in_secs: 900 };
        self.call("grant_part", request.key, |_| Ok(grant)).await
    }

    async fn list_parts(&self, key: &str, id: &MultipartId) -> Result<Vec<ListedPart>, BucketError> {
        let work = |state: &mut State| {
            let upload = state.uploads.get(&id.0).ok_or_else(|| no_such_upload("list_parts", key))?;
            let mut listed: Vec<ListedPart> = upload.parts.values().cloned().collect();
            if state.twins {
                let twin = |part: &ListedPart, etag: &str| ListedPart {
                    etag: etag.to_owned(),
                    crc64nvme: None,
                    ..part.clone()
                };
                let twins = |part| [twin(part, "a-twin"), twin(part, "z-twin")];
                let twins: Vec<ListedPart> = listed.iter().flat_map(twins).collect();
                listed.extend(twins);
                listed.sort_by(|a, b| (a.number, &a.etag).cmp(&(b.number, &b.etag)));
            }
            Ok(listed)
        };
        self.call("list_parts", key, work).await
    }

    async fn complete(&self, request: CompleteRequest<'_>) -> Result<CompleteReply, BucketError> {
        let (call, key) = ("complete", request.key);
        let refuse =
            |message: &str| BucketError::BadParts { call, key: key.to_owned(), message: message.to_owned() };
        let work = |state: &mut State| {
            let upload =
                state.uploads.get(&request.multipart_id.0).ok_or_else(|| no_such_upload(call, key))?;
            if request.parts.is_empty() {
                return Err(refuse("MalformedXML"));
            }
            let size_bytes = upload.parts.values().map(|part| part.size_bytes).sum();
            for part in request.parts {
                if upload.parts.get(&part.number).is_none_or(|there| there.etag != part.etag) {
                    return Err(refuse("InvalidPart"));
                }
            }
            let etag = Some(String::from("whole"));
            let head = ObjectHead {
                size_bytes,
                write_token: upload.token.clone(),
                etag: etag.clone(),
                crc64nvme: Some(request.crc64nvme),
            };
            Ok((upload.key.clone(), head, CompleteReply { etag, crc64nvme: Some(request.crc64nvme) }))
        };
        if self.is_next(call, |turn| matches!(turn, Turn::Late)) {
            let mut state = self.state();
            let (key, head, _) = work(&mut state)?;
            state.late.push((key, head));
        }
        let land = |state: &mut State| {
            let (key, head, reply) = work(state)?;
            state.objects.insert(key, head);
            state.uploads.remove(&request.multipart_id.0);
            Ok(reply)
        };
        self.call(call, key, land).await
    }

    async fn abort(&self, key: &str, id: &MultipartId) -> Result<(), BucketError> {
        let work = |state: &mut State| {
            state.uploads.remove(&id.0).map(drop).ok_or_else(|| no_such_upload("abort", key))
        };
        self.call("abort", key, work).await
    }

    async fn list_uploads_of(&self, key: &str) -> Result<Vec<MultipartId>, BucketError> {
        let work = |state: &mut State| {
            let of_key = state.uploads.iter().filter(|(_, upload)| upload.key == key);
            Ok(of_key.map(|(id, _)| MultipartId(id.clone())).collect())
        };
        self.call("list_uploads_of", key, work).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        let hidden = self.is_next("head", |turn| matches!(turn, Turn::Hide));
        self.call("head", key, |state| Ok(state.objects.get(key).filter(|_| !hidden).cloned())).await
    }

    async fn is_taken(&self, key: &str) -> Result<bool, BucketError> {
        self.call("is_taken", key, |state| Ok(state.objects.contains_key(key))).await
    }

    async fn put_empty(&self, key: &str, meta: &ObjectMeta, _: ChecksumKind) -> Result<(), BucketError> {
        let head = ObjectHead {
            size_bytes: 0,
            write_token: meta.metadata.get(WRITE_TOKEN_KEY).cloned(),
            etag: None,
            crc64nvme: Some(Crc64(0)),
        };
        let work = |state: &mut State| {
            state.objects.insert(key.to_owned(), head);
            Ok(())
        };
        self.call("put_empty", key, work).await
    }

    async fn grant_get(&self, key: &str, _: &str, _: Duration) -> Result<Sealed, BucketError> {
        Ok(Sealed::new(format!("fake:{key}")))
    }
}
