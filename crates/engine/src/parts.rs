//! Which parts storage has confirmed, for one attempt: a table in memory, one compact value in the store.

use std::collections::HashMap;

use hoist_wire::to_server::{ReadyPart, Receipt};
use hoist_wire::{Crc64, Md5, PartNumber, PartSums};

use crate::plan::Plan;

/// A part that storage has, and that hashes to what the agent read in this attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// The part's bytes.
    pub size_bytes: u64,
    /// Storage's ETag without its quotes.
    pub etag: String,
    /// What the agent's bytes hash to.
    pub sums: PartSums,
}

/// The confirmed parts of one attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartTable {
    parts: Vec<Option<StoredPart>>,
    stored_bytes: u64,
    count: u32,
}

/// Why a receipt is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The plan has no such part, or one of another size.
    #[error("part {number} of {size_bytes} bytes is not in the plan")]
    NotInPlan {
        /// The number.
        number: PartNumber,
        /// Its bytes.
        size_bytes: u64,
    },
    /// Not an ETag: empty, too long, or with other than printable ASCII characters.
    #[error("part {number} has an ETag that is none")]
    Etag {
        /// The number.
        number: PartNumber,
    },
}

/// Longest ETag that is kept, in bytes; S3's are 32 or 35.
pub const MAX_ETAG_BYTES: usize = 128;

impl PartTable {
    /// Takes a receipt; the same twice is once. Tells whether it said something new.
    ///
    /// # Errors
    /// [`ReceiptError`] when the plan has no such part, or the ETag is none.
    pub fn insert(&mut self, plan: &Plan, receipt: Receipt) -> Result<bool, ReceiptError> {
        let Receipt { number, size_bytes, etag, sums } = receipt;
        if plan.part_len(number) != Some(size_bytes) {
            return Err(ReceiptError::NotInPlan { number, size_bytes });
        }
        let printable = etag.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'<' && b != b'&');
        if etag.is_empty() || etag.len() > MAX_ETAG_BYTES || !printable {
            return Err(ReceiptError::Etag { number });
        }
        Ok(self.put(number, StoredPart { size_bytes, etag, sums }))
    }

    fn put(&mut self, number: PartNumber, part: StoredPart) -> bool {
        let index = number.index();
        if self.parts.len() <= index {
            self.parts.resize(index + 1, None);
        }
        if self.parts[index].as_ref() == Some(&part) {
            return false;
        }
        self.stored_bytes += part.size_bytes;
        match self.parts[index].replace(part) {
            Some(old) => self.stored_bytes -= old.size_bytes,
            None => self.count += 1,
        }
        true
    }

    /// Gives a part, if it is confirmed.
    pub fn get(&self, number: PartNumber) -> Option<&StoredPart> {
        self.parts.get(number.index())?.as_ref()
    }

    /// Gives all confirmed parts, by number.
    pub fn iter(&self) -> impl Iterator<Item = (PartNumber, &StoredPart)> {
        self.parts.iter().zip(1_u16..).filter_map(|(part, number)| {
            let number = PartNumber::new(number).ok()?;
            part.as_ref().map(|part| (number, part))
        })
    }

    /// Bytes that are confirmed.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// How many parts of the plan are not confirmed.
    pub fn missing(&self, plan: &Plan) -> u32 {
        u32::from(plan.count()).saturating_sub(self.count)
    }

    /// Writes the table as one compact value: about 30 bytes a part for ETags that are MD5.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        for (number, part) in self.iter() {
            out.extend(number.get().to_be_bytes());
            out.extend(part.size_bytes.to_be_bytes());
            out.extend(part.sums.crc64nvme.0.to_be_bytes());
            let hash = part.sums.md5.map(|md5| md5.0);
            let etag_is_md5 = hash.is_some_and(|hash| Md5(hash).hex() == part.etag);
            out.push(u8::from(hash.is_some()) | (u8::from(etag_is_md5) << 1));
            out.extend(hash.iter().flatten());
            if !etag_is_md5 {
                out.push(u8::try_from(part.etag.len()).unwrap_or(u8::MAX));
                out.extend(part.etag.as_bytes());
            }
        }
        out
    }

    /// Reads what [`PartTable::encode`] wrote; none for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut table = Self::default();
        let mut rest = match bytes.split_first() {
            None => return Some(table),
            Some((&FORMAT, rest)) => rest,
            Some(_) => return None,
        };
        while !rest.is_empty() {
            let number = PartNumber::new(u16::from_be_bytes(take(&mut rest)?)).ok()?;
            let size_bytes = u64::from_be_bytes(take(&mut rest)?);
            let crc64nvme = Crc64(u64::from_be_bytes(take(&mut rest)?));
            let [flags] = take::<1>(&mut rest)?;
            let md5 = if flags & 1 == 1 { Some(Md5(take(&mut rest)?)) } else { None };
            let etag = if flags & 2 == 2 {
                md5?.hex()
            } else {
                let [len] = take::<1>(&mut rest)?;
                let (text, after) = rest.split_at_checked(len.into())?;
                rest = after;
                String::from_utf8(text.to_vec()).ok()?
            };
            table.put(number, StoredPart { size_bytes, etag, sums: PartSums { crc64nvme, md5 } });
        }
        Some(table)
    }
}

/// The first byte of an encoded table.
const FORMAT: u8 = 1;

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// What storage listed when this attempt took the upload over, with what is known of those bytes from before.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    parts: HashMap<PartNumber, StoredElsewhere>,
}

#[derive(Debug, Clone)]
struct StoredElsewhere {
    size_bytes: u64,
    etag: String,
    crc64nvme: Option<Crc64>,
}

impl Listing {
    /// Adds a part that storage listed. Where storage says no CRC, the receipt of an earlier attempt with the same
    /// ETag tells it, because storage makes another ETag for other bytes.
    pub fn add(
        &mut self,
        number: PartNumber,
        size_bytes: u64,
        etag: String,
        crc: Option<Crc64>,
        earlier: &PartTable,
    ) {
        let known = || earlier.get(number).filter(|part| part.etag == etag).map(|part| part.sums.crc64nvme);
        let crc64nvme = crc.or_else(known);
        self.parts.insert(number, StoredElsewhere { size_bytes, etag, crc64nvme });
    }

    /// Gives the receipt for a part that storage already has with these very bytes: number, size and checksum agree.
    pub fn receipt_for(&self, ready: &ReadyPart) -> Option<Receipt> {
        let listed = self.parts.get(&ready.number)?;
        let same_md5 = ready.sums.md5.map(|md5| md5.hex() == listed.etag);
        let same_crc = listed.crc64nvme.map(|crc| crc == ready.sums.crc64nvme);
        // Each checksum that both sides know must agree, and there must be one.
        let agree =
            same_md5 != Some(false) && same_crc != Some(false) && (same_md5.is_some() || same_crc.is_some());
        (agree && listed.size_bytes == ready.size_bytes).then(|| Receipt {
            number: ready.number,
            size_bytes: ready.size_bytes,
            etag: listed.etag.clone(),
            sums: ready.sums,
        })
    }

    /// Forgets a part, because other bytes are on their way to its place.
    pub fn remove(&mut self, number: PartNumber) {
        self.parts.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_wire::limits::MIN_PART_SIZE_BYTES;
    use proptest::prelude::*;

    fn receipt(number: u16, size_bytes: u64, etag: &str, crc: u64, md5: Option<[u8; 16]>) -> Receipt {
        let sums = PartSums { crc64nvme: Crc64(crc), md5: md5.map(Md5) };
        Receipt { number: PartNumber::new(number).unwrap(), size_bytes, etag: etag.to_owned(), sums }
    }

    fn two_parts() -> Plan {
        Plan::new(MIN_PART_SIZE_BYTES + 1, MIN_PART_SIZE_BYTES).unwrap()
    }

    #[test]
    fn a_receipt_counts_once() {
        let (plan, mut table) = (two_parts(), PartTable::default());
        assert_eq!(table.insert(&plan, receipt(2, 1, "e", 1, None)), Ok(true));
        assert_eq!(table.insert(&plan, receipt(2, 1, "e", 1, None)), Ok(false));
        assert_eq!((table.missing(&plan), table.stored_bytes()), (1, 1));
        assert_eq!(table.insert(&plan, receipt(2, 1, "f", 2, None)), Ok(true), "a part can be sent again");
        assert_eq!((table.missing(&plan), table.stored_bytes()), (1, 1));
    }

    #[test]
    fn a_receipt_outside_the_plan_is_refused() {
        let (plan, mut table) = (two_parts(), PartTable::default());
        assert!(table.insert(&plan, receipt(3, 1, "e", 1, None)).is_err());
        assert!(table.insert(&plan, receipt(2, 2, "e", 1, None)).is_err());
        for etag in ["", "a b", "<x>", "\"", &"x".repeat(129)] {
            assert!(table.insert(&plan, receipt(2, 1, etag, 1, None)).is_err(), "{etag:?}");
        }
    }

    #[test]
    fn a_part_is_reused_only_where_every_known_checksum_agrees() {
        let mut listing = Listing::default();
        let number = PartNumber::FIRST;
        let md5 = Md5([1; 16]);
        let ready =
            |crc, md5| ReadyPart { number, size_bytes: 9, sums: PartSums { crc64nvme: Crc64(crc), md5 } };
        listing.add(number, 9, md5.hex(), Some(Crc64(1)), &PartTable::default());
        assert!(listing.receipt_for(&ready(1, None)).is_some());
        assert!(listing.receipt_for(&ready(1, Some(md5))).is_some());
        assert!(listing.receipt_for(&ready(2, Some(md5))).is_none());
        assert!(listing.receipt_for(&ready(1, Some(Md5([2; 16])))).is_none());
        listing.add(number, 9, String::from("opaque"), None, &PartTable::default());
        assert!(listing.receipt_for(&ready(1, None)).is_none(), "nothing to compare is no agreement");
        listing.add(number, 8, md5.hex(), Some(Crc64(1)), &PartTable::default());
        assert!(listing.receipt_for(&ready(1, None)).is_none(), "another size is another part");
    }

    #[test]
    fn an_earlier_receipt_tells_the_crc_only_for_the_same_etag() {
        let plan = two_parts();
        let mut earlier = PartTable::default();
        earlier.insert(&plan, receipt(2, 1, "tag", 5, None)).unwrap();
        let number = PartNumber::new(2).unwrap();
        let ready = ReadyPart { number, size_bytes: 1, sums: PartSums { crc64nvme: Crc64(5), md5: None } };
        for (etag, reused) in [("tag", true), ("other", false)] {
            let mut listing = Listing::default();
            listing.add(number, 1, etag.to_owned(), None, &earlier);
            assert_eq!(listing.receipt_for(&ready).is_some(), reused, "{etag}");
        }
    }

    proptest! {
        #[test]
        fn a_table_round_trips(parts in prop::collection::btree_map(1..=10_000_u16, (any::<u64>(), any::<[u8; 16]>(), any::<bool>(), any::<bool>()), 0..50)) {
            let mut table = PartTable::default();
            for (number, (crc, md5, with_md5, opaque)) in parts {
                let etag = if opaque { String::from("opaque-1") } else { Md5(md5).hex() };
                let sums = PartSums { crc64nvme: Crc64(crc), md5: with_md5.then_some(Md5(md5)) };
                table.put(PartNumber::new(number).unwrap(), StoredPart { size_bytes: u64::from(number), etag, sums });
            }
            prop_assert_eq!(PartTable::decode(&table.encode()).unwrap(), table);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = PartTable::decode(&bytes);
        }
    }
}
