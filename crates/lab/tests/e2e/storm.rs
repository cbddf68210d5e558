//! Many faults at once, thrown by a seed: every file arrives whole, and no upload is left, whatever met what.
//!
//! A seed that fails is run alone with `HOIST_STORM_SEED`; `HOIST_STORM_COUNT` runs that many of them, from there on.

use std::time::Duration;

use hoist_lab::Scene;
use hoist_lab::proxy::{Call, Canned, Fault, On};

/// Downloads under way at once.
const FILES: usize = 3;

/// Faults of each kind of request in one storm: few where each costs a back-off of seconds.
const FAULTS: [(Call, usize); 6] = [
    (Call::Part, 8),
    (Call::Complete, 3),
    (Call::Create, 2),
    (Call::ListParts, 2),
    (Call::Head, 2),
    (Call::Abort, 1),
];

/// Whole part and a rest for each file: six parts in all.
const BYTES: u64 = 5 * 1024 * 1024 + 4321;

/// Splitmix64 (Steele, 2014): enough chance for dice.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())].clone()
    }

    fn error(&mut self) -> Canned {
        let (status, code) = self.one(&[
            (500, "InternalError"),
            (503, "SlowDown"),
            (400, "RequestTimeout"),
            (429, "TooManyRequests"),
            (409, "OperationAborted"),
        ]);
        // Only a Complete can have this answer; an agent would take it for a refusal.
        if status == 409 {
            Canned::page(502, "<html>bad gateway</html>")
        } else {
            Canned::error(status, code)
        }
    }

    fn fault(&mut self, call: Call) -> (On, Fault) {
        let on = On::next(call).after(self.roll(4));
        let bytes = self.roll(6_000_000) as u64;
        let fault = match self.roll(8) {
            0 => Fault::Reset,
            1 | 2 => Fault::LoseReply,
            3 => Fault::Answer(self.error()),
            4 => Fault::Misreport(self.error()),
            5 if call == Call::Part => Fault::CutAfter(bytes),
            6 if call == Call::Part => Fault::FlipBit(bytes),
            7 if call == Call::Part => {
                Fault::Header("etag", "\"00000000000000000000000000000000\"".to_owned())
            }
            5 if call == Call::Complete => Fault::Misreport(Canned::error(400, "InvalidPart")),
            6 if call == Call::Complete => Fault::Misreport(Canned::error(404, "NoSuchUpload")),
            7 if call == Call::Complete => Fault::Answer(Canned::page(200, "")),
            5 if call == Call::Head => Fault::Header("x-amz-meta-hoist-write-token", "foreign".to_owned()),
            6 if call == Call::Head => Fault::Header("x-amz-checksum-crc64nvme", "AAAAAAAAAAE=".to_owned()),
            7 if call == Call::Head => Fault::Answer(Canned::error(403, "AccessDenied")),
            5 | 6 => Fault::CutReplyAfter(self.roll(200)),
            _ => Fault::Delay(Duration::from_millis(300)),
        };
        (on, fault)
    }
}

async fn storm(seed: u64) {
    let mut dice = Dice(seed);
    let scene = Scene::earnest().proxied_for_all().start().await;
    let operator = scene.operator();
    let _agent = scene.agent("restaurant-1").start();
    operator.sees("restaurant-1", true).await;
    let calls = FAULTS.into_iter().flat_map(|(call, times)| std::iter::repeat_n(call, times));
    let faults: Vec<(On, Fault)> = calls.map(|call| dice.fault(call)).collect();
    println!("seed {seed}: {faults:#?}");
    for (on, fault) in faults {
        scene.proxy().inject(on, fault);
    }
    let mut asked = Vec::new();
    for number in 0..FILES {
        let path = scene.site.random(format!("report-{number}"), BYTES);
        let id = operator.ask("restaurant-1", path.to_str().unwrap()).await.id;
        asked.push((id, path));
    }
    for (id, path) in asked {
        operator.completes(id).await;
        let (bytes, _) = operator.fetch(id).await;
        assert!(bytes == std::fs::read(path).unwrap(), "seed {seed}: the object is not the file");
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_faults_ends_with_every_file_in_its_place() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("HOIST_STORM_SEED").unwrap_or(1);
    let count = number("HOIST_STORM_COUNT").unwrap_or(1);
    for seed in first..first + count {
        storm(seed).await;
    }
}
