//! One bucket on disk: what is in it, and how it changes without ever being half changed.
//!
//! ```text
//! <bucket>/bucket.json
//! <bucket>/objects/<hash of key>.json   an object exists from the moment this name does
//! <bucket>/uploads/<id>.json            an upload is open while this is there and no object has its data
//! <bucket>/data/<id>/<part>             bytes; they never move, Complete only writes a record
//! ```
//! Complete, PutObject and a replaced key all come down to one rename of one record. What a crash can
//! leave is data that no record names, or the record of an upload that an object has taken over: both
//! are removed at the next start. All of it blocks: never call it on an async thread.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::digest::{Digests, combined_crc64, combined_etag};
use crate::disk::{TempFile, names_in, read_record, remove_file, remove_folder, sync_folder, write_record};
use crate::error::{During as _, StoreError};
use crate::names::{PartName, fresh_id, object_file};
use crate::records::{BucketRecord, Description, ObjectRecord, UploadRecord, now_ms};
use crate::upload::{ListedPart, Upload, chosen_parts, keep_only, matches};

/// A bucket and what is in it. The files are the truth; the maps are read from them at the start.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) record: BucketRecord,
    folder: PathBuf,
    temp_folder: PathBuf,
    contents: Mutex<Contents>,
}

/// Uploads are kept by key, then id: the order in which S3 lists them.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) objects: BTreeMap<String, Arc<Object>>,
    pub(crate) uploads: BTreeMap<(String, String), Arc<Upload>>,
}

/// An object; its bytes live as long as somebody reads them.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) record: ObjectRecord,
    pub(crate) folder: PathBuf,
    /// Replaced or deleted: the last reader takes the bytes along.
    gone: AtomicBool,
}

impl Object {
    fn new(record: ObjectRecord, folder: PathBuf) -> Self {
        Self { record, folder, gone: AtomicBool::new(false) }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if self.gone.load(Ordering::Acquire) {
            // What cannot be removed now is removed at the next start.
            let _ = remove_folder(&self.folder);
        }
    }
}

/// What must hold of a key for a write to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Condition {
    /// `If-None-Match: *`: there is no object.
    pub(crate) must_be_absent: bool,
}

/// What Complete says of the object that it wants.
#[derive(Debug, Clone, Default)]
pub(crate) struct Completion {
    pub(crate) parts: Vec<ListedPart>,
    pub(crate) crc64: Option<String>,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) condition: Condition,
}

impl Bucket {
    /// Creates an empty bucket; it is there whole or not at all.
    pub(crate) fn create(folder: PathBuf, temp_folder: PathBuf) -> Result<Self, StoreError> {
        let record = BucketRecord { created_ms: now_ms() };
        let build = || -> io::Result<()> {
            let draft = temp_folder.join(fresh_id(0).map_err(io::Error::other)?);
            for part in ["objects", "uploads", "data"] {
                fs::create_dir_all(draft.join(part))?;
            }
            write_record(&temp_folder, &record)?.rename(&draft.join("bucket.json"))?;
            sync_folder(&draft)?;
            fs::rename(&draft, &folder)?;
            folder.parent().map_or(Ok(()), sync_folder)
        };
        build().during("creating a bucket's folder")?;
        Ok(Self { record, folder, temp_folder, contents: Mutex::default() })
    }

    /// Reads a bucket back and removes what a crash left over.
    ///
    /// # Errors
    /// The file that cannot be read, and why.
    pub(crate) fn load(folder: PathBuf, temp_folder: PathBuf) -> Result<Self, (PathBuf, io::Error)> {
        let at = |path: &Path, e: io::Error| (path.to_path_buf(), e);
        let record = folder.join("bucket.json");
        let record = read_record(&record).map_err(|e| at(&record, e))?;
        let mut contents = Contents::default();
        let objects = folder.join("objects");
        for name in names_in(&objects).map_err(|e| at(&objects, e))? {
            let path = objects.join(name);
            let record: ObjectRecord = read_record(&path).map_err(|e| at(&path, e))?;
            let data = folder.join("data").join(&record.data);
            contents.objects.insert(record.key.clone(), Arc::new(Object::new(record, data)));
        }
        let uploads = folder.join("uploads");
        for name in names_in(&uploads).map_err(|e| at(&uploads, e))? {
            let path = uploads.join(name);
            let record: UploadRecord = read_record(&path).map_err(|e| at(&path, e))?;
            let data = folder.join("data").join(&record.id);
            let taken_over = contents.objects.get(&record.key).filter(|o| o.record.data == record.id);
            if let Some(object) = taken_over {
                keep_only(&data, &object.record.parts).map_err(|e| at(&data, e))?;
                remove_file(&path).map_err(|e| at(&path, e))?;
            } else {
                let id = (record.key.clone(), record.id.clone());
                let upload = Upload::load(record, data.clone()).map_err(|e| at(&data, e))?;
                contents.uploads.insert(id, Arc::new(upload));
            }
        }
        remove_unnamed_data(&folder, &contents).map_err(|e| at(&folder, e))?;
        Ok(Self { record, folder, temp_folder, contents: Mutex::new(contents) })
    }

    /// What is in the bucket now.
    pub(crate) fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// `NoSuchKey`.
    pub(crate) fn object(&self, key: &str) -> Result<Arc<Object>, StoreError> {
        self.contents().objects.get(key).cloned().ok_or(StoreError::NoSuchKey)
    }

    /// # Errors
    /// `NoSuchUpload`.
    pub(crate) fn upload(&self, key: &str, id: &str) -> Result<Arc<Upload>, StoreError> {
        let id = (key.to_owned(), id.to_owned());
        self.contents().uploads.get(&id).cloned().ok_or(StoreError::NoSuchUpload)
    }

    /// Creates an upload and returns its id.
    pub(crate) fn create_upload(
        &self,
        key: String,
        asked_crc64: bool,
        description: Description,
    ) -> Result<String, StoreError> {
        let created_ms = now_ms();
        let id = fresh_id(created_ms).map_err(io::Error::other).during("making an upload's id")?;
        let data = self.create_data(&id)?;
        let record = UploadRecord { id: id.clone(), key: key.clone(), created_ms, asked_crc64, description };
        let write = || {
            write_record(&self.temp_folder, &record)?.rename(&self.upload_file(&id))?;
            sync_folder(&self.folder.join("uploads"))
        };
        write().during("writing an upload's record")?;
        self.contents().uploads.insert((key, id.clone()), Arc::new(Upload::new(record, data)));
        Ok(id)
    }

    /// Aborts an upload and removes its parts.
    pub(crate) fn abort(&self, key: &str, id: &str) -> Result<(), StoreError> {
        let upload = self.upload(key, id)?;
        let mut state = upload.open()?;
        let unlink = || {
            remove_file(&self.upload_file(id))?;
            sync_folder(&self.folder.join("uploads"))
        };
        unlink().during("removing an upload's record")?;
        state.closed = true;
        self.contents().uploads.remove(&(key.to_owned(), id.to_owned()));
        remove_folder(&upload.folder).during("removing an upload's parts")
    }

    /// Makes an object of an upload's parts. No byte is read or moved.
    ///
    /// A Complete that comes again is answered like the first, as long as the object is still that one.
    pub(crate) fn complete(
        &self,
        key: &str,
        id: &str,
        completion: &Completion,
    ) -> Result<Arc<Object>, StoreError> {
        let open = self.upload(key, id).and_then(|upload| self.complete_open(&upload, completion));
        match open {
            Err(StoreError::NoSuchUpload) => self.completed_before(key, id, completion),
            other => other,
        }
    }

    fn complete_open(&self, upload: &Upload, completion: &Completion) -> Result<Arc<Object>, StoreError> {
        let mut state = upload.open()?;
        let parts = chosen_parts(&state, &completion.parts)?;
        let size_bytes = parts.iter().map(|part| part.size_bytes).sum();
        if let Some(expected) = completion.size_bytes.filter(|expected| *expected != size_bytes) {
            return Err(StoreError::WrongSize { size: size_bytes, expected });
        }
        let crc64 = combined_crc64(&parts);
        if completion.crc64.as_ref().is_some_and(|claimed| *claimed != crate::digest::crc64_text(crc64)) {
            return Err(StoreError::BadDigest { name: crate::digest::CRC64NVME });
        }
        let record = ObjectRecord {
            key: upload.record.key.clone(),
            data: upload.record.id.clone(),
            modified_ms: now_ms(),
            size_bytes,
            etag: combined_etag(&parts),
            crc64,
            parts: parts.iter().map(PartName::to_string).collect(),
            description: upload.record.description.clone(),
        };
        // A part may have its name and not yet its sync: the object must not be surer than its parts.
        sync_folder(&upload.folder).during("syncing an upload's folder")?;
        let temp = write_record(&self.temp_folder, &record).during("writing an object's record")?;
        let (object, replaced) = self.publish(temp, record, &completion.condition)?;
        // From here on the object exists, whatever fails below; the next start would tidy up.
        state.closed = true;
        self.contents().uploads.remove(&(upload.record.key.clone(), upload.record.id.clone()));
        self.make_durable(replaced)?;
        keep_only(&upload.folder, &object.record.parts).during("removing parts left out")?;
        remove_file(&self.upload_file(&upload.record.id)).during("removing an upload's record")?;
        Ok(object)
    }

    fn completed_before(
        &self,
        key: &str,
        id: &str,
        completion: &Completion,
    ) -> Result<Arc<Object>, StoreError> {
        let object = self.object(key).map_err(|_| StoreError::NoSuchUpload)?;
        let parts = &object.record.parts;
        let same = object.record.data == id
            && parts.len() == completion.parts.len()
            && parts.iter().zip(&completion.parts).all(|(name, listed)| {
                name.parse::<PartName>()
                    .is_ok_and(|part| i32::from(part.number) == listed.number && matches(&part, listed))
            });
        if same { Ok(object) } else { Err(StoreError::NoSuchUpload) }
    }

    /// Makes an object of one body whose bytes are on the disk already.
    pub(crate) fn put(
        &self,
        key: String,
        temp: TempFile,
        digests: &Digests,
        description: Description,
        condition: &Condition,
    ) -> Result<Arc<Object>, StoreError> {
        let modified_ms = now_ms();
        let id = fresh_id(modified_ms).map_err(io::Error::other).during("making an object's id")?;
        let Digests { size_bytes, md5, crc64, .. } = *digests;
        let part = PartName { number: 1, order: 1, size_bytes, md5, crc64 };
        let data = self.create_data(&id)?;
        let parts = vec![part.to_string()];
        let etag = part.etag();
        let record = ObjectRecord { key, data: id, modified_ms, size_bytes, etag, crc64, parts, description };
        let write = || {
            temp.rename(&data.join(&record.parts[0]))?;
            sync_folder(&data)?;
            write_record(&self.temp_folder, &record)
        };
        let published = write()
            .during("storing an object's bytes")
            .and_then(|temp| self.publish(temp, record, condition));
        if published.is_err() {
            remove_folder(&data).during("removing the bytes of an object that was refused")?;
        }
        let (object, replaced) = published?;
        self.make_durable(replaced)?;
        Ok(object)
    }

    /// Deletes an object; one that is not there is no error.
    pub(crate) fn delete(&self, key: &str) -> Result<(), StoreError> {
        let object = {
            let mut contents = self.contents();
            if contents.objects.contains_key(key) {
                remove_file(&self.object_path(key)).during("removing an object's record")?;
            }
            contents.objects.remove(key)
        };
        self.make_durable(object)
    }

    /// Gives an object's record its name: the moment at which the object exists, or replaces another.
    ///
    /// Returns it and the one it replaced; an error means that nothing changed. The caller makes it
    /// durable before it confirms anything.
    fn publish(
        &self,
        temp: TempFile,
        record: ObjectRecord,
        condition: &Condition,
    ) -> Result<(Arc<Object>, Option<Arc<Object>>), StoreError> {
        let mut contents = self.contents();
        if condition.must_be_absent && contents.objects.contains_key(&record.key) {
            return Err(StoreError::PreconditionFailed);
        }
        temp.rename(&self.object_path(&record.key)).during("naming an object's record")?;
        let data = self.folder.join("data").join(&record.data);
        let object = Arc::new(Object::new(record, data));
        let replaced = contents.objects.insert(object.record.key.clone(), Arc::clone(&object));
        Ok((object, replaced))
    }

    /// Waits until the objects' names are on the disk; only then may the bytes of `gone` go.
    fn make_durable(&self, gone: Option<Arc<Object>>) -> Result<(), StoreError> {
        sync_folder(&self.folder.join("objects")).during("syncing the objects' folder")?;
        if let Some(object) = gone {
            object.gone.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn create_data(&self, id: &str) -> Result<PathBuf, StoreError> {
        let data = self.folder.join("data").join(id);
        let create = || {
            fs::create_dir(&data)?;
            sync_folder(&self.folder.join("data"))
        };
        create().during("creating a folder for bytes")?;
        Ok(data)
    }

    fn object_path(&self, key: &str) -> PathBuf {
        self.folder.join("objects").join(object_file(key))
    }

    fn upload_file(&self, id: &str) -> PathBuf {
        self.folder.join("uploads").join(format!("{id}.json"))
    }
}

/// Removes the folders of bytes that no record names.
fn remove_unnamed_data(folder: &Path, contents: &Contents) -> io::Result<()> {
    let mut named: std::collections::HashSet<&str> =
        contents.objects.values().map(|object| object.record.data.as_str()).collect();
    named.extend(contents.uploads.values().map(|upload| upload.record.id.as_str()));
    let data = folder.join("data");
    for name in names_in(&data)? {
        if !named.contains(name.as_str()) {
            remove_folder(&data.join(name))?;
        }
    }
    Ok(())
}
