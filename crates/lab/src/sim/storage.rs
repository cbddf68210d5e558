//! The bucket's inside, with what bites about S3: uploads, parts, objects, grants. Everything here happens at once.
//!
//! Deliberately absent: the way there (`bucket`), and faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use hoist_server::bucket::{
    BucketError, CompleteReply, CompleteRequest, ListedPart, MultipartId, ObjectHead, ObjectMeta,
    WRITE_TOKEN_KEY,
};
use hoist_wire::limits::MIN_PART_SIZE_BYTES;
use hoist_wire::{ChecksumKind, Crc64, Md5, PartNumber, PartSums};
use md5::Digest as _;
use tokio::time::Instant;

use super::content::Content;

/// How this bucket differs from others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// ListParts leaves the parts' CRCs out (SeaweedFS).
    pub(crate) lists_no_crc: bool,
    /// A second Complete is answered 200 (AWS), elsewhere 404.
    pub(crate) completes_twice: bool,
    /// An expired grant is answered 400, elsewhere 403.
    pub(crate) expired_is_400: bool,
    /// A PUT to an aborted upload is answered 403, elsewhere 404.
    pub(crate) gone_is_403: bool,
}

/// A part as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) sums: PartSums,
    pub(crate) etag: String,
    pub(crate) content: Arc<Content>,
    pub(crate) size_bytes: u64,
    /// When the answer of the PUT reached an agent.
    pub(crate) confirmed: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) key: String,
    token: Option<String>,
    checksum: ChecksumKind,
    pub(crate) parts: BTreeMap<u16, Part>,
    pub(crate) is_foreign: bool,
}

/// A whole object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    pub(crate) head: ObjectHead,
    pub(crate) content: Content,
    made_of: Option<String>,
    pub(crate) born: Instant,
}

/// What a grant was signed for.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) upload: String,
    pub(crate) number: u16,
    pub(crate) size_bytes: u64,
    pub(crate) sums: PartSums,
    pub(crate) checksum: ChecksumKind,
    /// By the bucket's clock, in nanoseconds since 1970.
    pub(crate) valid_ns: (i64, i64),
}

/// What storage says no with: status and code.
pub(crate) type No = (u16, &'static str);

/// The inside of a bucket.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) habits: Habits,
    pub(crate) uploads: BTreeMap<String, Upload>,
    pub(crate) objects: BTreeMap<String, Object>,
    grants: BTreeMap<u64, Signed>,
    next: u64,
}

impl Storage {
    pub(crate) fn new(habits: Habits) -> Self {
        Self { habits, uploads: BTreeMap::new(), objects: BTreeMap::new(), grants: BTreeMap::new(), next: 0 }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn create(&mut self, key: &str, meta: &ObjectMeta, checksum: ChecksumKind) -> MultipartId {
        let id = format!("upload-{}", self.number());
        let token = meta.metadata.get(WRITE_TOKEN_KEY).cloned();
        let is_foreign = token.is_none();
        let parts = BTreeMap::new();
        self.uploads.insert(id.clone(), Upload { key: key.to_owned(), token, checksum, parts, is_foreign });
        MultipartId(id)
    }

    /// Notes what a grant was signed for, and names it.
    pub(crate) fn sign(&mut self, signed: Signed) -> u64 {
        let number = self.number();
        self.grants.insert(number, signed);
        number
    }

    /// Gives the part that stands where a grant would put one.
    pub(crate) fn part(&self, grant: u64) -> Option<&Part> {
        let signed = self.grants.get(&grant)?;
        self.uploads.get(&signed.upload)?.parts.get(&signed.number)
    }

    pub(crate) fn part_mut(&mut self, grant: u64) -> Option<&mut Part> {
        let signed = self.grants.get(&grant)?;
        self.uploads.get_mut(&signed.upload)?.parts.get_mut(&signed.number)
    }

    /// Stores a part, if the grant is for exactly this.
    pub(crate) fn put(
        &mut self,
        grant: u64,
        sums: PartSums,
        content: Arc<Content>,
        size_bytes: u64,
        now_ns: i64,
    ) -> Result<Part, No> {
        let signed = self.grants.get(&grant).cloned().ok_or((403, "SignatureDoesNotMatch"))?;
        if !(signed.valid_ns.0..signed.valid_ns.1).contains(&now_ns) {
            return Err(if self.habits.expired_is_400 {
                (400, "InvalidRequest")
            } else {
                (403, "AccessDenied")
            });
        }
        if signed.size_bytes != size_bytes {
            return Err((403, "SignatureDoesNotMatch"));
        }
        let agrees = match signed.checksum {
            ChecksumKind::Crc64nvme => signed.sums.crc64nvme == sums.crc64nvme,
            ChecksumKind::PartMd5 => signed.sums.md5 == sums.md5,
            ChecksumKind::Unproven => true,
        };
        if !agrees {
            return Err((400, "BadDigest"));
        }
        let gone = if self.habits.gone_is_403 { (403, "AccessDenied") } else { (404, "NoSuchUpload") };
        let upload = self.uploads.get_mut(&signed.upload).ok_or(gone)?;
        let etag = sums.md5.unwrap_or(Md5([0; 16])).hex();
        let part = Part { sums, etag, content, size_bytes, confirmed: None };
        upload.parts.insert(signed.number, part.clone());
        Ok(part)
    }

    /// Gives the parts of an upload under its key.
    fn upload(&self, call: &'static str, key: &str, id: &MultipartId) -> Result<&Upload, BucketError> {
        let gone = || BucketError::NoSuchUpload { call, key: key.to_owned() };
        self.uploads.get(&id.0).filter(|upload| upload.key == key).ok_or_else(gone)
    }

    pub(crate) fn list_parts(&self, key: &str, id: &MultipartId) -> Result<Vec<ListedPart>, BucketError> {
        let upload = self.upload("list_parts", key, id)?;
        let says_crc = upload.checksum == ChecksumKind::Crc64nvme && !self.habits.lists_no_crc;
        let parts = upload.parts.iter().filter_map(|(number, part)| {
            Some(ListedPart {
                number: PartNumber::new(*number).ok()?,
                size_bytes: part.size_bytes,
                etag: part.etag.clone(),
                crc64nvme: says_crc.then_some(part.sums.crc64nvme),
            })
        });
        Ok(parts.collect())
    }

    pub(crate) fn complete(&mut self, request: &CompleteRequest<'_>) -> Result<CompleteReply, BucketError> {
        let (call, key) = ("complete", request.key);
        let id = request.multipart_id;
        let upload = match self.upload(call, key, id) {
            Ok(upload) => upload,
            Err(gone) => {
                let before = self.objects.get(key).filter(|object| object.made_of.as_ref() == Some(&id.0));
                return match before {
                    Some(object) if self.habits.completes_twice => Ok(reply(&object.head)),
                    Some(_) | None => Err(gone),
                };
            }
        };
        let bad =
            |message: &str| BucketError::BadParts { call, key: key.to_owned(), message: message.to_owned() };
        let mut content = Content::default();
        let (mut crc, mut hash, mut size_bytes) = (0, md5::Md5::new(), 0);
        for (index, named) in request.parts.iter().enumerate() {
            let part = upload.parts.get(&named.number.get()).filter(|part| part.etag == named.etag);
            let part = part.ok_or_else(|| bad("InvalidPart"))?;
            if part.size_bytes < MIN_PART_SIZE_BYTES && index + 1 < request.parts.len() {
                return Err(bad("EntityTooSmall"));
            }
            content.append(&part.content);
            crc = crc_fast::checksum_combine(
                crc_fast::CrcAlgorithm::Crc64Nvme,
                crc,
                part.sums.crc64nvme.0,
                part.size_bytes,
            );
            hash.update(part.sums.md5.unwrap_or(Md5([0; 16])).0);
            size_bytes += part.size_bytes;
        }
        if request.parts.is_empty() {
            return Err(bad("MalformedXML"));
        }
        let proves = upload.checksum == ChecksumKind::Crc64nvme;
        if proves && Crc64(crc) != request.crc64nvme {
            return Err(BucketError::BadChecksum {
                call,
                key: key.to_owned(),
                message: String::from("BadDigest"),
            });
        }
        let etag = Some(format!("{}-{}", Md5(hash.finalize().into()).hex(), request.parts.len()));
        let head = ObjectHead {
            size_bytes,
            write_token: upload.token.clone(),
            etag,
            crc64nvme: proves.then_some(Crc64(crc)),
        };
        let said = reply(&head);
        self.uploads.remove(&id.0);
        self.objects.insert(
            key.to_owned(),
            Object { head, content, made_of: Some(id.0.clone()), born: Instant::now() },
        );
        Ok(said)
    }

    pub(crate) fn abort(&mut self, key: &str, id: &MultipartId) -> Result<(), BucketError> {
        self.upload("abort", key, id)?;
        self.uploads.remove(&id.0);
        Ok(())
    }

    pub(crate) fn uploads_of(&self, key: &str) -> Vec<MultipartId> {
        let own = self.uploads.iter().filter(|(_, upload)| upload.key == key);
        own.map(|(id, _)| MultipartId(id.clone())).collect()
    }

    pub(crate) fn head(&self, key: &str) -> Option<ObjectHead> {
        self.objects.get(key).map(|object| object.head.clone())
    }

    pub(crate) fn put_empty(&mut self, key: &str, meta: &ObjectMeta, checksum: ChecksumKind) {
        let head = ObjectHead {
            size_bytes: 0,
            write_token: meta.metadata.get(WRITE_TOKEN_KEY).cloned(),
            etag: Some(Md5(md5::Md5::digest(b"").into()).hex()),
            crc64nvme: (checksum == ChecksumKind::Crc64nvme).then_some(Crc64(0)),
        };
        self.objects.insert(
            key.to_owned(),
            Object { head, content: Content::default(), made_of: None, born: Instant::now() },
        );
    }
}

fn reply(head: &ObjectHead) -> CompleteReply {
    CompleteReply { etag: head.etag.clone(), crc64nvme: head.crc64nvme }
}
