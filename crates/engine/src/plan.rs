//! How a file is cut into parts.

use std::ops::Range;

use hoist_wire::PartNumber;
use hoist_wire::limits::{MAX_OBJECT_BYTES, MAX_PART_SIZE_BYTES, MAX_PARTS, MIN_PART_SIZE_BYTES};

const MIB: u64 = 1024 * 1024;

/// A file of `size_bytes` in parts of `part_size_bytes`, the last one shorter, numbered 1..=n without gaps.
///
/// An empty file has no parts: S3 takes it by PutObject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    size_bytes: u64,
    part_size_bytes: u64,
}

/// Why a file cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Over the largest object of S3.
    #[error("{0} bytes are more than S3 takes in one object: {MAX_OBJECT_BYTES}")]
    TooLarge(u64),
    /// Not a size that S3 allows, or too small for 10,000 parts.
    #[error("{part_size_bytes} bytes are no part size for a file of {size_bytes} bytes")]
    PartSize {
        /// Bytes in the file.
        size_bytes: u64,
        /// Bytes in a part.
        part_size_bytes: u64,
    },
}

impl Plan {
    /// Cuts a new upload: parts of `wanted_part_bytes`, or larger where the file would need more than 10,000.
    ///
    /// # Errors
    /// [`PlanError`] where S3 takes no such object or part.
    pub fn new(size_bytes: u64, wanted_part_bytes: u64) -> Result<Self, PlanError> {
        if size_bytes > MAX_OBJECT_BYTES {
            return Err(PlanError::TooLarge(size_bytes));
        }
        let needed = size_bytes.div_ceil(u64::from(MAX_PARTS)).next_multiple_of(MIB);
        Self::resume(size_bytes, wanted_part_bytes.max(needed.min(MAX_PART_SIZE_BYTES)))
    }

    /// Cuts as an upload that exists already was cut.
    ///
    /// # Errors
    /// [`PlanError::PartSize`] where the file no longer fits into that upload.
    pub fn resume(size_bytes: u64, part_size_bytes: u64) -> Result<Self, PlanError> {
        let allowed = (MIN_PART_SIZE_BYTES..=MAX_PART_SIZE_BYTES).contains(&part_size_bytes);
        if !allowed || size_bytes.div_ceil(part_size_bytes) > u64::from(MAX_PARTS) {
            return Err(PlanError::PartSize { size_bytes, part_size_bytes });
        }
        Ok(Self { size_bytes, part_size_bytes })
    }

    /// Bytes in the file.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Bytes in each part but the last.
    pub fn part_size_bytes(&self) -> u64 {
        self.part_size_bytes
    }

    /// How many parts there are; 0 for an empty file.
    pub fn count(&self) -> u16 {
        u16::try_from(self.size_bytes.div_ceil(self.part_size_bytes)).unwrap_or(MAX_PARTS)
    }

    /// The numbers of all parts, in order.
    pub fn numbers(&self) -> impl Iterator<Item = PartNumber> + use<> {
        (1..=self.count()).filter_map(|number| PartNumber::new(number).ok())
    }

    /// The bytes of a part; none for a number behind the last part.
    pub fn range(&self, number: PartNumber) -> Option<Range<u64>> {
        let start = u64::from(number.get() - 1) * self.part_size_bytes;
        (start < self.size_bytes).then(|| start..self.size_bytes.min(start + self.part_size_bytes))
    }

    /// How many bytes a part has; none for a number behind the last part.
    pub fn part_len(&self, number: PartNumber) -> Option<u64> {
        self.range(number).map(|range| range.end - range.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_edges_of_five_mib() {
        let five = MIN_PART_SIZE_BYTES;
        for (size, count) in [(0, 0), (1, 1), (five - 1, 1), (five, 1), (five + 1, 2), (100 * MIB, 20)] {
            assert_eq!(Plan::new(size, five).unwrap().count(), count, "{size} bytes");
        }
    }

    #[test]
    fn ten_thousand_parts_of_five_gib_are_the_end() {
        let plan = Plan::new(MAX_OBJECT_BYTES, MIN_PART_SIZE_BYTES).unwrap();
        assert_eq!((plan.count(), plan.part_size_bytes()), (10_000, MAX_PART_SIZE_BYTES));
        assert!(Plan::new(MAX_OBJECT_BYTES + 1, MIN_PART_SIZE_BYTES).is_err());
        assert!(Plan::resume(1, MIN_PART_SIZE_BYTES - 1).is_err());
        assert!(Plan::resume(MIN_PART_SIZE_BYTES * 10_000 + 1, MIN_PART_SIZE_BYTES).is_err());
    }

    proptest! {
        #[test]
        fn a_plan_covers_every_byte_once(size in 0..=MAX_OBJECT_BYTES, wanted in MIN_PART_SIZE_BYTES..=64 * MIB) {
            let plan = Plan::new(size, wanted).unwrap();
            let mut covered = 0;
            for number in plan.numbers() {
                let range = plan.range(number).unwrap();
                prop_assert_eq!(range.start, covered);
                prop_assert!(range.end > range.start);
                let last = number.get() == plan.count();
                prop_assert!(last || range.end - range.start == plan.part_size_bytes());
                covered = range.end;
            }
            prop_assert_eq!(covered, size);
            prop_assert!(PartNumber::new(plan.count() + 1).is_err() || plan.range(PartNumber::new(plan.count() + 1).unwrap()).is_none());
        }
    }
}
