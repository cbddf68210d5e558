//! What the object must be: one value for the whole file, made of its parts, and held against what storage says.

use crc_fast::{CrcAlgorithm, checksum_combine};
use hoist_engine::parts::PartTable;
use hoist_wire::{ChecksumKind, Crc64, Md5};
use md5::{Digest, Md5 as Md5Hash};

use crate::bucket::{CompleteReply, ObjectHead};
use crate::store::Record;

/// Combines the parts' CRCs, in order, to the whole file's; 0 for no parts.
pub(super) fn combined_crc(table: &PartTable) -> Crc64 {
    let combine = |whole, (_, part): (_, &hoist_engine::parts::StoredPart)| {
        checksum_combine(CrcAlgorithm::Crc64Nvme, whole, part.sums.crc64nvme.0, part.size_bytes)
    };
    Crc64(table.iter().fold(0, combine))
}

/// Tells whether an object's ETag speaks for these parts: made of their MD5s, or of one part the MD5 itself.
///
/// rclone says the latter in HEAD, also for more parts, where only Complete's answer tells.
fn is_etag_of(table: &PartTable, seen: &str) -> bool {
    let only = table.iter().next().filter(|_| table.iter().count() == 1);
    let plain = only.and_then(|(_, part)| part.sums.md5).map(|md5| md5.hex());
    plain.as_deref() == Some(seen) || composite_etag(table).as_deref() == Some(seen)
}

/// Gives the ETag that an object of these parts has on S3: the MD5 of the parts' MD5s, and how many (`-n`).
/// For no parts it is the MD5 of nothing. None where a part's MD5 is not known.
fn composite_etag(table: &PartTable) -> Option<String> {
    let mut hash = Md5Hash::new();
    let mut count = 0_u32;
    for (_, part) in table.iter() {
        hash.update(part.sums.md5?.0);
        count += 1;
    }
    let hex = Md5(hash.finalize().into()).hex();
    Some(if count == 0 { hex } else { format!("{hex}-{count}") })
}

/// Holds what HEAD says (and Complete, for stores whose HEAD tells no checksum) against the record.
///
/// # Errors
/// What does not agree, with both values.
pub(super) fn judge(
    record: &Record,
    table: &PartTable,
    head: &ObjectHead,
    said_by_complete: Option<&CompleteReply>,
) -> Result<ChecksumKind, String> {
    let key = record.object_key.as_deref().unwrap_or_default();
    if head.write_token.as_deref() != Some(&record.write_token) {
        return Err(format!(
            "object {key} does not carry this download's write token: somebody else wrote it"
        ));
    }
    let expected = record.life.size_bytes.unwrap_or(0);
    if head.size_bytes != expected {
        return Err(format!("object {key} has {} bytes, and the file {expected}", head.size_bytes));
    }
    match record.life.upload.map_or(ChecksumKind::Unproven, |upload| upload.checksum) {
        ChecksumKind::Crc64nvme => {
            let expected = record.life.crc64nvme;
            match head.crc64nvme.or(said_by_complete.and_then(|said| said.crc64nvme)) {
                seen if seen.is_some() && seen == expected => Ok(ChecksumKind::Crc64nvme),
                Some(seen) => Err(format!(
                    "object {key} has CRC64NVME {seen}, and the file {}",
                    expected.map_or_else(String::new, |crc| crc.to_string())
                )),
                None => Err(format!("storage does not say the CRC64NVME of object {key}")),
            }
        }
        ChecksumKind::PartMd5 => {
            let said = said_by_complete.and_then(|said| said.etag.as_deref());
            let seen = head.etag.as_deref();
            if seen.into_iter().chain(said).any(|etag| is_etag_of(table, etag)) {
                return Ok(ChecksumKind::PartMd5);
            }
            let expected = composite_etag(table);
            let (seen, expected) = (seen.unwrap_or("none"), expected.as_deref().unwrap_or("none"));
            Err(format!("object {key} has ETag {seen}, and its parts make {expected}"))
        }
        ChecksumKind::Unproven => Ok(ChecksumKind::Unproven),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crc_fast::checksum;
    use hoist_engine::plan::Plan;
    use hoist_wire::limits::MIN_PART_SIZE_BYTES;
    use hoist_wire::to_server::Receipt;
    use hoist_wire::{PartNumber, PartSums};

    #[test]
    fn parts_combine_to_what_the_whole_hashes_to_in_any_order_of_arrival() {
        let part = usize::try_from(MIN_PART_SIZE_BYTES).unwrap();
        let bytes: Vec<u8> = (0..2 * part + 7).map(|n| u8::try_from(n * 31 % 251).unwrap()).collect();
        let plan = Plan::new(bytes.len().try_into().unwrap(), MIN_PART_SIZE_BYTES).unwrap();
        let mut table = PartTable::default();
        for (index, chunk) in bytes.chunks(part).enumerate().rev() {
            let crc64nvme = Crc64(checksum(CrcAlgorithm::Crc64Nvme, chunk));
            let md5 = Some(Md5(Md5Hash::digest(chunk).into()));
            let number = PartNumber::new(u16::try_from(index).unwrap() + 1).unwrap();
            let size_bytes = chunk.len().try_into().unwrap();
            let sums = PartSums { crc64nvme, md5 };
            table.insert(&plan, Receipt { number, size_bytes, etag: String::from("e"), sums }).unwrap();
        }
        assert_eq!(combined_crc(&table), Crc64(checksum(CrcAlgorithm::Crc64Nvme, &bytes)));
        assert!(composite_etag(&table).unwrap().ends_with("-3"));
    }

    #[test]
    fn an_etag_speaks_for_its_parts_and_no_others() {
        let table = |parts: &[&[u8]]| {
            let plan = Plan::new(u64::from(parts.len() == 2) * MIN_PART_SIZE_BYTES + 1, MIN_PART_SIZE_BYTES)
                .unwrap();
            let mut table = PartTable::default();
            for (number, bytes) in plan.numbers().zip(parts) {
                let size_bytes = plan.part_len(number).unwrap();
                let sums = PartSums { crc64nvme: Crc64(0), md5: Some(Md5(Md5Hash::digest(bytes).into())) };
                table.insert(&plan, Receipt { number, size_bytes, etag: String::from("e"), sums }).unwrap();
            }
            table
        };
        let (one, two) = (table(&[b"a"]), table(&[b"a", b"b"]));
        let md5_of_a = Md5(Md5Hash::digest(b"a").into()).hex();
        assert!(is_etag_of(&one, &md5_of_a) && is_etag_of(&one, &composite_etag(&one).unwrap()));
        assert!(is_etag_of(&two, &composite_etag(&two).unwrap()));
        for other in [md5_of_a, composite_etag(&one).unwrap(), String::new()] {
            assert!(!is_etag_of(&two, &other), "{other}");
        }
    }

    #[test]
    fn nothing_has_the_etag_of_nothing() {
        assert_eq!(composite_etag(&PartTable::default()).unwrap(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(combined_crc(&PartTable::default()), Crc64(0));
        assert_eq!(checksum(CrcAlgorithm::Crc64Nvme, b""), 0);
    }
}
