//! What was sent today, against the most that a site lets go in a day. Pure; time comes in as an argument.
//!
//! A day is one of UTC: it has no hour that comes twice. Deliberately absent: the file that keeps the count (`kept`).

pub(super) const DAY_SECS: i64 = 86_400;

/// The count of one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Today {
    /// Days since 1970.
    pub(super) day: i64,
    /// What was sent on it.
    pub(super) bytes: u64,
}

impl Today {
    /// Takes bytes from the day's; gives the seconds until the next day where they are more than is left.
    pub(super) fn spend(&mut self, bytes: u64, most: u64, now_secs: i64) -> Result<(), u64> {
        let day = now_secs.div_euclid(DAY_SECS);
        if day != self.day {
            *self = Self { day, bytes: 0 };
        }
        let spent = self.bytes.saturating_add(bytes);
        // A part that is larger than a whole day's share is the day's only one: else it would never leave.
        if spent > most && self.bytes > 0 {
            return Err(u64::try_from(DAY_SECS - now_secs.rem_euclid(DAY_SECS)).unwrap_or(1));
        }
        self.bytes = spent;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_share_and_the_next_one_its_own() {
        let mut today = Today::default();
        let noon = 20_000 * DAY_SECS + 43_200;
        assert_eq!(today.spend(60, 100, noon), Ok(()));
        assert_eq!(today.spend(41, 100, noon + 1), Err(43_199));
        assert_eq!(today.spend(40, 100, noon + 2), Ok(()));
        assert_eq!(today.spend(1, 100, noon + 43_199), Err(1));
        assert_eq!(today.spend(100, 100, noon + 43_200), Ok(()));
    }

    #[test]
    fn a_part_larger_than_a_day_is_the_days_only_one() {
        let mut today = Today::default();
        assert_eq!(today.spend(500, 100, 0), Ok(()));
        assert!(today.spend(1, 100, 10).is_err());
        assert_eq!(today.spend(500, 100, DAY_SECS), Ok(()));
    }
}
