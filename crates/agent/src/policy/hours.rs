//! The hours in which files may leave. Pure: the time of the site's day comes in.

use std::time::Duration;

/// Seconds in a day of the clock on the wall.
const DAY_SECS: u32 = 24 * 3600;

/// Spans of the day; none means always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hours {
    spans: Vec<Span>,
}

/// From this second of the day to that one, which is not part of it; over midnight where it ends before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: u32,
    to: u32,
}

impl Hours {
    /// Adds a span such as `22:00-06:00`.
    pub(super) fn add(&mut self, text: &str) -> Result<(), &'static str> {
        let spelling = "is no span of hours: write it as 22:00-06:00, with 24:00 as the end of the day";
        let (from, to) = text.split_once('-').ok_or(spelling)?;
        let (from, to) = (time(from).ok_or(spelling)?, time(to).ok_or(spelling)?);
        if from == to || from == DAY_SECS {
            return Err("is empty: for the whole day write 00:00-24:00, or leave hours out");
        }
        self.spans.push(Span { from, to });
        Ok(())
    }

    /// Gives how long it is, by the clock on the wall, until files may leave; none where they may.
    pub(super) fn shut_for(&self, second_of_day: u32) -> Option<Duration> {
        if self.spans.is_empty() || self.spans.iter().any(|span| span.has(second_of_day)) {
            return None;
        }
        let waits = self.spans.iter().map(|span| (span.from + DAY_SECS - second_of_day) % DAY_SECS);
        waits.min().map(|secs| Duration::from_secs(secs.into()))
    }

    /// Gives the spans as they are written.
    pub(super) fn describe(&self) -> String {
        let clock = |secs: u32| format!("{:02}:{:02}", secs / 3600, secs / 60 % 60);
        let spans: Vec<String> =
            self.spans.iter().map(|span| format!("{}-{}", clock(span.from), clock(span.to))).collect();
        spans.join(", ")
    }
}

impl Span {
    fn has(self, second: u32) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&second)
        } else {
            second >= self.from || second < self.to
        }
    }
}

/// Reads `hh:mm` as seconds.
fn time(text: &str) -> Option<u32> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let two = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())?
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let secs = hours * 3600 + minutes * 60;
    (minutes < 60 && secs <= DAY_SECS).then_some(secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shut_for(spans: &[&str], clock: &str) -> Option<u64> {
        let mut hours = Hours::default();
        for span in spans {
            hours.add(span).unwrap();
        }
        hours.shut_for(time(clock).unwrap()).map(|wait| wait.as_secs())
    }

    #[test]
    fn spans_hold_from_their_first_minute_and_over_midnight() {
        let night = &["22:00-06:00", "12:30-13:00"];
        for open in ["22:00", "23:59", "00:00", "05:59", "12:30", "12:59"] {
            assert_eq!(shut_for(night, open), None, "{open}");
        }
        assert_eq!(shut_for(night, "06:00"), Some(6 * 3600 + 1800));
        assert_eq!(shut_for(night, "13:00"), Some(9 * 3600));
        assert_eq!(shut_for(night, "21:59"), Some(60));
        assert_eq!(shut_for(&["01:00-02:00"], "23:00"), Some(2 * 3600));
        assert_eq!(shut_for(&["00:00-24:00"], "23:59"), None);
        assert_eq!(shut_for(&["18:00-24:00"], "00:00"), Some(18 * 3600));
        assert_eq!(shut_for(&[], "03:00"), None);
    }

    #[test]
    fn what_is_no_span_is_said() {
        for bad in [
            "",
            "22:00",
            "22-06",
            "9:00-10:00",
            "24:01-02:00",
            "10:60-11:00",
            "10:00-10:00",
            "24:00-01:00",
            "+1:00-02:00",
        ] {
            assert!(Hours::default().add(bad).is_err(), "{bad:?}");
        }
    }
}
