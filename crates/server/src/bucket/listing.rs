//! Listings, page by page: the parts of an upload, and the uploads of a key.
//!
//! Deliberately absent: a listing of the whole bucket. What is not named by its exact key is not ours.

use aws_sdk_s3::types::{EncodingType, Part};
use hoist_wire::limits::MAX_PARTS;
use hoist_wire::{Crc64, PartNumber};
use percent_encoding::percent_decode_str;

use super::calls::unquoted;
use super::errors::{Asked, unclear};
use super::{BucketError, ListedPart, MultipartId, S3Bucket};

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
        // XML has no way to write most control characters; only such keys are worth what encoding leaves unclear.
        let encoding = key.chars().any(char::is_control).then_some(EncodingType::Url);
        let mut found = Vec::new();
        let mut marker: (Option<String>, Option<String>) = (None, None);
        for _ in 0..MAX_PAGES {
            let call = self
                .reads
                .list_multipart_uploads()
                .bucket(&self.config.bucket)
                .prefix(key)
                .set_encoding_type(encoding.clone())
                .set_max_uploads(self.config.page_size.map(i32::from))
                .set_key_marker(marker.0.clone())
                .set_upload_id_marker(marker.1.clone());
            let page = Box::pin(call.send()).await.map_err(|error| self.place.explain(asked, &error))?;
            let encoded = page.encoding_type == Some(EncodingType::Url);
            for upload in page.uploads() {
                if let (Some(its_key), Some(id)) = (upload.key(), upload.upload_id())
                    && is_same_key(its_key, key, encoded)
                {
                    found.push(MultipartId(id.to_owned()));
                }
            }
            if page.is_truncated != Some(true) {
                found.dedup();
                return Ok(found);
            }
            let decoded = |text: &str| if encoded { decode(text, true) } else { text.to_owned() };
            // One of the two may be left out (SeaweedFS 4.48 goes by the upload's id alone).
            let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
            let next = (
                given(page.next_key_marker()).map(|text| decoded(&text)),
                given(page.next_upload_id_marker()),
            );
            if next == (None, None) || next == marker {
                return Err(unclear(asked, "a listing that does not move on".to_owned()));
            }
            marker = next;
        }
        Err(unclear(asked, format!("a listing of more than {MAX_PAGES} pages")))
    }
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
