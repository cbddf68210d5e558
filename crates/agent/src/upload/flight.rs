//! How many parts are in flight: up while throughput grows, halved on trouble, one on a thin link.
//!
//! Deliberately absent: clocks and sockets. What was measured comes in, a limit comes out.

use std::time::Duration;

/// Below this a second connection only makes the first one slower: 256 kbit/s in bytes.
const THIN_BYTES_PER_SEC: f64 = 256_000.0 / 8.0;

/// One more part must bring at least a tenth more, or half of its even share where that is less.
const WORTH_IT: f64 = 0.10;
const HALF_SHARE: f64 = 0.50;

/// How much must have been seen before a step is judged.
const WINDOW: Duration = Duration::from_secs(2);

/// How long a limit stands after a step that brought nothing, or after trouble.
const REST: Duration = Duration::from_secs(30);

/// The limit on parts in flight of one attempt.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    limit: usize,
    max: usize,
    /// Throughput with one part less, while a step is on trial.
    before: Option<f64>,
    window: Duration,
    window_bytes: u64,
    /// Left of the time in which nothing is tried.
    resting: Duration,
}

impl Flight {
    /// Starts with one part in flight and never allows more than `max`.
    pub(crate) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self { limit: 1, max, before: None, window: Duration::ZERO, window_bytes: 0, resting: Duration::ZERO }
    }

    /// Gives how many parts may be in flight now.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Counts `bytes` that the network took within `elapsed`, while `in_flight` parts were on their way.
    ///
    /// Times in which something else than the network set the pace (`in_flight` below the limit) say nothing.
    pub(crate) fn sample(&mut self, bytes: u64, elapsed: Duration, in_flight: usize) {
        self.resting = self.resting.saturating_sub(elapsed);
        if in_flight < self.limit {
            return self.forget_window();
        }
        self.window += elapsed;
        self.window_bytes += bytes;
        if self.window < WINDOW {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate may be off by a billionth")]
        let rate = self.window_bytes as f64 / self.window.as_secs_f64();
        self.forget_window();
        self.judge(rate);
    }

    /// Lets a time pass in which a rate that somebody chose set the pace: it says nothing of the network.
    pub(crate) fn paced(&mut self, elapsed: Duration) {
        self.resting = self.resting.saturating_sub(elapsed);
        self.before = None;
        self.forget_window();
    }

    fn judge(&mut self, rate: f64) {
        if rate < THIN_BYTES_PER_SEC {
            self.limit = 1;
            self.before = None;
            return;
        }
        if let Some(before) = self.before.take()
            && rate < before * self.worth_it()
        {
            self.limit = (self.limit - 1).max(1);
            self.resting = REST;
            return;
        }
        if self.resting.is_zero() && self.limit < self.max {
            self.before = Some(rate);
            self.limit += 1;
        }
    }

    /// Gives by how much the step to this limit must have raised the rate.
    fn worth_it(&self) -> f64 {
        let others = u32::try_from(self.limit.saturating_sub(1).max(1)).unwrap_or(u32::MAX);
        1.0 + WORTH_IT.min(HALF_SHARE / f64::from(others))
    }

    /// Halves the limit: storage was silent, timed out or asked for less.
    pub(crate) fn trouble(&mut self) {
        self.limit = (self.limit / 2).max(1);
        self.before = None;
        self.resting = REST;
        self.forget_window();
    }

    fn forget_window(&mut self) {
        self.window = Duration::ZERO;
        self.window_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs `secs` seconds on a link that gives `rate(parts)` bytes a second.
    fn run(flight: &mut Flight, secs: u32, rate: impl Fn(usize) -> u64) {
        for _ in 0..secs {
            let parts = flight.limit();
            flight.sample(rate(parts), SECOND, parts);
        }
    }

    #[test]
    fn it_grows_while_throughput_grows_and_stops_at_the_most() {
        let mut flight = Flight::new(4);
        assert_eq!(flight.limit(), 1);
        run(&mut flight, 20, |parts| 1_000_000 * parts as u64);
        assert_eq!(flight.limit(), 4);
        let mut one = Flight::new(1);
        run(&mut one, 20, |parts| 1_000_000 * parts as u64);
        assert_eq!(one.limit(), 1);
    }

    #[test]
    fn a_step_that_brings_nothing_is_taken_back_and_tried_again_only_later() {
        let mut flight = Flight::new(4);
        run(&mut flight, 4, |_| 1_000_000);
        assert_eq!(flight.limit(), 1);
        run(&mut flight, 25, |_| 1_000_000);
        assert_eq!(flight.limit(), 1);
        run(&mut flight, 8, |parts| 1_000_000 * parts as u64);
        assert!(flight.limit() > 1);
    }

    #[test]
    fn below_256_kbit_a_second_there_is_one_connection() {
        let mut flight = Flight::new(4);
        run(&mut flight, 60, |parts| 8_000 * parts as u64);
        assert_eq!(flight.limit(), 1);
        run(&mut flight, 20, |parts| 1_000_000 * parts as u64);
        assert_eq!(flight.limit(), 4);
        run(&mut flight, 2, |_| 20_000);
        assert_eq!(flight.limit(), 1);
    }

    #[test]
    fn trouble_halves_it_and_it_rests() {
        let mut flight = Flight::new(16);
        run(&mut flight, 60, |parts| 1_000_000 * parts as u64);
        assert_eq!(flight.limit(), 16);
        flight.trouble();
        assert_eq!(flight.limit(), 8);
        run(&mut flight, 28, |parts| 1_000_000 * parts as u64);
        assert_eq!(flight.limit(), 8);
        for _ in 0..5 {
            flight.trouble();
        }
        assert_eq!(flight.limit(), 1);
    }

    #[test]
    fn a_wait_for_grants_says_nothing_about_the_network() {
        let mut flight = Flight::new(4);
        for _ in 0..60 {
            flight.sample(1_000_000, SECOND, 0);
        }
        assert_eq!(flight.limit(), 1);
    }

    #[test]
    fn a_rate_that_was_chosen_says_nothing_about_the_network() {
        let mut flight = Flight::new(4);
        run(&mut flight, 20, |parts| 1_000_000 * parts as u64);
        for _ in 0..60 {
            flight.sample(20_000, SECOND, 4);
            flight.paced(SECOND);
        }
        assert_eq!(flight.limit(), 4);
        let mut alone = Flight::new(4);
        for _ in 0..60 {
            alone.paced(SECOND);
        }
        assert_eq!(alone.limit(), 1);
    }
}
