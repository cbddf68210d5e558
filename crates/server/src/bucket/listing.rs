//! Listings, page by page: the parts of an upload, and the uploads of a key.
//!
//! Deliberately absent: doing anything with what is found below the prefix. What is not named by its exact key is not
//! ours: it is only counted.

use aws_sdk_s3::types::{EncodingType, MultipartUpload, Part};
use hoist_wire::limits::MAX_PARTS;
use hoist_wire::{Crc64, PartNumber};
use percent_encoding::percent_decode_str;

use super::calls::unquoted;
use super::errors::{Asked, unclear};
use super::{BucketError, ListedPart, MultipartId, S3Bucket, UploadKeys, UploadsMarker};

/// Most pages read of one listing: the largest upload, if storage gave its parts one at a time.
const MAX_PAGES: u16 = MAX_PARTS;

impl S3Bucket {
    /// Lists all parts of an upload, by number.
    pub(super) async fn all_parts(
        &self,
        key: &str,
        multipart_id: &MultipartId,
    ) -> Result<Vec<ListedPart>, BucketError> {
        let asked = Asked { call: "list_parts", key, needs: "s3:ListMultipartUploadParts" };
        let mut parts: Vec<ListedPart> = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let call = self
                .reads
                .list_parts()
                .bucket(&self.config.bucket)
                .key(key)
                .upload_id(&multipart_id.0)
                .set_max_parts(self.config.page_size.map(i32::from))
                .set_part_number_marker(marker.clone());
            let page = Box::pin(call.send()).await.map_err(|error| self.place.explain(asked, &error))?;
            for part in page.parts() {
                parts.push(
                    listed(part).ok_or_else(|| unclear(asked, format!("a part that is none: {part:?}")))?,
                );
            }
            if page.is_truncated != Some(true) {
                // By number and ETag: where a part was put again, some stores list both (SeaweedFS 4.48).
                parts.sort_by(|a, b| (a.number, &a.etag).cmp(&(b.number, &b.etag)));
                parts.dedup();
                return Ok(parts);
            }
            // Some stores leave the marker out; the last number is what it would say.
            let last = parts.iter().map(|part| part.number).max().map(|number| number.to_string());
            let next = page.next_part_number_marker.filter(|next| !next.is_empty() && next != "0").or(last);
            if next.is_none() || next == marker {
                return Err(unclear(asked, "a listing that does not move on".to_owned()));
            }
            marker = next;
        }
        Err(unclear(asked, format!("a listing of more than {MAX_PAGES} pages")))
    }

    /// Lists the uploads under exactly this key.
    pub(super) async fn uploads_of(&self, key: &str) -> Result<Vec<MultipartId>, BucketError> {
        let asked = Asked { call: "list_uploads_of", key, needs: "s3:ListBucketMultipartUploads" };
        let mut found = Vec::new();
        let mut marker = UploadsMarker::default();
        for _ in 0..MAX_PAGES {
            let page = self.uploads_page(asked, key, marker).await?;
            let of_key = page.uploads.into_iter().filter(|(its, _)| is_same_key(its, key, page.encoded));
            found.extend(of_key.map(|(_, id)| id));
            let Some(next) = page.next else {
                found.dedup();
                return Ok(found);
            };
            marker = next;
        }
        Err(unclear(asked, format!("a listing of more than {MAX_PAGES} pages")))
    }

    /// Gives a page of the keys below the server's prefix that have open uploads, whosoever they are.
    pub(super) async fn below_prefix(&self, after: Option<UploadsMarker>) -> Result<UploadKeys, BucketError> {
        let prefix = self.config.prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let asked = Asked { call: "keys_with_uploads", key: &prefix, needs: "s3:ListBucketMultipartUploads" };
        let page = self.uploads_page(asked, &prefix, after.unwrap_or_default()).await?;
        let plain = |key: String| if page.encoded { decode(&key, true) } else { key };
        Ok(UploadKeys {
            keys: page.uploads.into_iter().map(|(key, _)| plain(key)).collect(),
            next: page.next,
        })
    }

    async fn uploads_page(
        &self,
        asked: Asked<'_>,
        prefix: &str,
        marker: UploadsMarker,
    ) -> Result<UploadsPage, BucketError> {
        // XML has no way to write most control characters; only such keys are worth what encoding leaves unclear.
        let encoding = prefix.chars().any(char::is_control).then_some(EncodingType::Url);
        let call = self
            .reads
            .list_multipart_uploads()
            .bucket(&self.config.bucket)
            .prefix(prefix)
            .set_encoding_type(encoding)
            .set_max_uploads(self.config.page_size.map(i32::from))
            .set_key_marker(marker.key.clone())
            .set_upload_id_marker(marker.id.clone());
        let page = Box::pin(call.send()).await.map_err(|error| self.place.explain(asked, &error))?;
        let encoded = page.encoding_type == Some(EncodingType::Url);
        let named = |upload: &MultipartUpload| {
            Some((upload.key()?.to_owned(), MultipartId(upload.upload_id()?.to_owned())))
        };
        let uploads = page.uploads().iter().filter_map(named).collect();
        if page.is_truncated != Some(true) {
            return Ok(UploadsPage { uploads, encoded, next: None });
        }
        let decoded = |text: &str| if encoded { decode(text, true) } else { text.to_owned() };
        // One of the two may be left out (SeaweedFS 4.48 goes by the upload's id alone).
        let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let next = UploadsMarker {
            key: given(page.next_key_marker()).map(|text| decoded(&text)),
            id: given(page.next_upload_id_marker()),
        };
        if next == UploadsMarker::default() || next == marker {
            return Err(unclear(asked, "a listing that does not move on".to_owned()));
        }
        Ok(UploadsPage { uploads, encoded, next: Some(next) })
    }
}

/// One page of uploads, as storage lists it.
struct UploadsPage {
    uploads: Vec<(String, MultipartId)>,
    /// The keys are URL-encoded.
    encoded: bool,
    next: Option<UploadsMarker>,
}

fn listed(part: &Part) -> Option<ListedPart> {
    let number = u16::try_from(part.part_number?).ok()?;
    Some(ListedPart {
        number: PartNumber::new(number).ok()?,
        size_bytes: u64::try_from(part.size?).ok()?,
        etag: unquoted(part.e_tag()?),
        crc64nvme: part.checksum_crc64_nvme().and_then(|text| text.parse::<Crc64>().ok()),
    })
}

/// Compares a key of a listing with ours.
fn is_same_key(listed: &str, key: &str, encoded: bool) -> bool {
    // Stores differ in whether they write a space as `+`.
    listed == key || (encoded && (decode(listed, true) == key || decode(listed, false) == key))
}

fn decode(text: &str, plus_is_space: bool) -> String {
    let text = if plus_is_space { text.replace('+', " ") } else { text.to_owned() };
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_key_is_another_key() {
        assert!(is_same_key("a/b", "a/b", false));
        assert!(!is_same_key("a/bx", "a/b", false));
        assert!(!is_same_key("a%2Fb", "a/b", false));
        assert!(is_same_key("a%2Fb%0A+c", "a/b\n c", true));
        assert!(is_same_key("a%0A+", "a\n+", true));
    }
}
