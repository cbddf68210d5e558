//! Whatever is said is heard as it was said.

use hoist_wire::to_agent::{
    Accept, Answer, Encoding, Fetch, Forget, Goodbye, GoodbyeReason, Grant, Pace, PartAnswer, Parts, Renew,
    Wait, Welcome,
};
use hoist_wire::to_server::{
    Busy, Finished, Forgotten, Hello, Identity, Offer, PartsReady, Progress, ReadyPart, Receipt, Receipts,
    Refused, Unsupported, Waiting,
};
use hoist_wire::{
    Attempt, Batch, ChecksumKind, Crc64, DownloadId, ErrorCode, LinkSeq, Md5, OnChange, Outcome, PartNumber,
    PartSums, ReasonCode, Sealed, Timestamp, ToAgent, ToServer,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn busy() -> impl Strategy<Value = Busy> {
    (0..1_u64 << 48, any::<[u8; 10]>(), any::<u32>()).prop_map(|(ms, random, attempt)| Busy {
        download_id: DownloadId::new(ms, random),
        attempt: Attempt(attempt),
    })
}

fn sums() -> impl Strategy<Value = PartSums> {
    (any::<u64>(), option::of(any::<[u8; 16]>()))
        .prop_map(|(crc, md5)| PartSums { crc64nvme: Crc64(crc), md5: md5.map(Md5) })
}

fn number() -> impl Strategy<Value = PartNumber> {
    (1..=10_000_u16).prop_map(|number| PartNumber::new(number).unwrap())
}

fn batch<T: std::fmt::Debug + Clone>(item: impl Strategy<Value = T>) -> impl Strategy<Value = Batch<T>> {
    vec(item, 0..=16).prop_map(|items| Batch::new(items).unwrap())
}

fn reason() -> impl Strategy<Value = ReasonCode> {
    select(ReasonCode::ALL)
}

fn code() -> impl Strategy<Value = ErrorCode> {
    let names: serde_json::Value = serde_json::from_str(&crate::golden::read("names")).unwrap();
    let codes: Vec<ErrorCode> = serde_json::from_value(names["error_code"].clone()).unwrap();
    select(codes)
}

/// Texts of every kind of character, also those that JSON escapes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), vec(any::<char>(), 0..64).prop_map(String::from_iter)]
}

fn identity() -> impl Strategy<Value = Identity> {
    any::<(u64, u64, u64, i64, i64)>().prop_map(|(device, inode, size_bytes, modified_ns, changed_ns)| {
        Identity { device, inode, size_bytes, modified_ns, changed_ns }
    })
}

/// Times that RFC 3339 can write: the years 0 to 9999.
fn time() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800_000_i64..253_370_764_800_000).prop_map(Timestamp)
}

fn about_the_file() -> impl Strategy<Value = ToServer> {
    let offer = (busy(), text(), text(), any::<u64>(), any::<i64>(), identity());
    let finished = (busy(), any::<u64>(), any::<u64>(), identity());
    let refused = (busy(), code(), text(), option::of(any::<u64>()));
    prop_oneof![
        offer.prop_map(|(Busy { download_id, attempt }, path, name, size_bytes, modified_ms, identity)| {
            ToServer::Offer(Offer { download_id, attempt, path, name, size_bytes, modified_ms, identity })
        }),
        finished.prop_map(|(Busy { download_id, attempt }, size_bytes, crc, identity)| {
            ToServer::Finished(Finished { download_id, attempt, size_bytes, crc64nvme: Crc64(crc), identity })
        }),
        refused.prop_map(|(Busy { download_id, attempt }, code, message, retry_after_ms)| {
            ToServer::Refused(Refused { download_id, attempt, code, message, retry_after_ms })
        }),
        busy().prop_map(|Busy { download_id, attempt }| ToServer::Forgotten(Forgotten {
            download_id,
            attempt
        })),
    ]
}

fn about_the_parts() -> impl Strategy<Value = ToServer> {
    let ready = (number(), any::<u64>(), sums());
    let ready = ready.prop_map(|(number, size_bytes, sums)| ReadyPart { number, size_bytes, sums });
    let receipt = (number(), any::<u64>(), text(), sums());
    let receipt =
        receipt.prop_map(|(number, size_bytes, etag, sums)| Receipt { number, size_bytes, etag, sums });
    let waiting = (reason(), text(), any::<u64>(), any::<u64>());
    let waiting = waiting.prop_map(|(code, message, since_ms, retry_in_ms)| Waiting {
        code,
        message,
        since_ms,
        retry_in_ms,
    });
    let progress = (busy(), any::<(u64, u64, u64)>(), option::of(waiting));
    prop_oneof![
        (busy(), batch(ready)).prop_map(|(Busy { download_id, attempt }, parts)| {
            ToServer::PartsReady(PartsReady { download_id, attempt, parts })
        }),
        (busy(), batch(receipt)).prop_map(|(Busy { download_id, attempt }, parts)| {
            ToServer::Receipts(Receipts { download_id, attempt, parts })
        }),
        progress.prop_map(|(Busy { download_id, attempt }, (hashed_bytes, sent_bytes, rate), waiting)| {
            ToServer::Progress(Progress {
                download_id,
                attempt,
                hashed_bytes,
                sent_bytes,
                rate_bytes_per_sec: rate,
                waiting,
            })
        }),
    ]
}

fn to_server() -> impl Strategy<Value = ToServer> {
    let hello = (text(), text(), text(), btree_map(text(), text(), 0..8), any::<u8>(), vec(busy(), 0..16));
    let hello = (hello, option::of(select(OnChange::ALL)));
    prop_oneof![
        hello.prop_map(|((agent_version, os, host, facts, slots, busy), on_change)| {
            ToServer::Hello(Hello { agent_version, os, host, facts, slots, busy, on_change })
        }),
        about_the_file(),
        about_the_parts(),
        text().prop_map(|kind| ToServer::Unsupported(Unsupported { kind })),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let grant = (text(), btree_map(text(), text(), 0..4), any::<u32>());
    prop_oneof![
        grant.prop_map(|(url, headers, expires_in_secs)| {
            Answer::Put(Grant { url: Sealed::new(url), headers, expires_in_secs })
        }),
        Just(Answer::Stored),
        (reason(), any::<u64>()).prop_map(|(code, retry_in_ms)| Answer::Wait(Wait { code, retry_in_ms })),
    ]
}

fn about_a_download() -> impl Strategy<Value = ToAgent> {
    let checksum = select(vec![ChecksumKind::Crc64nvme, ChecksumKind::PartMd5, ChecksumKind::Unproven]);
    let part = (number(), answer()).prop_map(|(number, answer)| PartAnswer { number, answer });
    prop_oneof![
        (busy(), option::of(text()), select(OnChange::ALL), option::of(any::<u64>())).prop_map(
            |(Busy { download_id, attempt }, path, on_change, max_rate_bytes_per_sec)| {
                ToAgent::Fetch(Fetch { download_id, attempt, path, on_change, max_rate_bytes_per_sec })
            }
        ),
        (busy(), option::of(any::<u64>())).prop_map(
            |(Busy { download_id, attempt }, max_rate_bytes_per_sec)| {
                ToAgent::Pace(Pace { download_id, attempt, max_rate_bytes_per_sec })
            }
        ),
        (busy(), any::<u64>(), checksum).prop_map(
            |(Busy { download_id, attempt }, part_size_bytes, checksum)| {
                let encoding = Encoding::Identity;
                ToAgent::Accept(Accept { download_id, attempt, part_size_bytes, checksum, encoding })
            }
        ),
        (busy(), batch(part)).prop_map(|(Busy { download_id, attempt }, parts)| {
            ToAgent::Parts(Parts { download_id, attempt, parts })
        }),
        (busy(), select(Outcome::ALL)).prop_map(|(Busy { download_id, attempt }, outcome)| {
            ToAgent::Forget(Forget { download_id, attempt, outcome })
        }),
    ]
}

fn to_agent() -> impl Strategy<Value = ToAgent> {
    let reasons = vec![
        GoodbyeReason::Stopping,
        GoodbyeReason::Replaced,
        GoodbyeReason::SlowReader,
        GoodbyeReason::ProtocolViolation,
        GoodbyeReason::Other,
    ];
    prop_oneof![
        (any::<u64>(), time(), any::<u32>()).prop_map(|(link, server_time, ping_interval_secs)| {
            ToAgent::Welcome(Welcome { link: LinkSeq(link), server_time, ping_interval_secs })
        }),
        about_a_download(),
        (text(), time())
            .prop_map(|(token, expires_at)| ToAgent::Renew(Renew { token: Sealed::new(token), expires_at })),
        (select(reasons), text(), any::<u64>()).prop_map(|(reason, message, reconnect_after_ms)| {
            ToAgent::Goodbye(Goodbye { reason, message, reconnect_after_ms })
        }),
        text().prop_map(|kind| ToAgent::Unsupported(Unsupported { kind })),
    ]
}

proptest! {
    #[test]
    fn what_an_agent_says_is_heard(message in to_server()) {
        let frame = serde_json::to_string(&message).unwrap();
        prop_assert_eq!(serde_json::from_str::<ToServer>(&frame).unwrap(), message.clone());
        if let Ok(decoded) = ToServer::decode(&frame) {
            prop_assert_eq!(decoded, message);
        } else {
            prop_assert!(frame.len() > hoist_wire::limits::MAX_FRAME_TO_SERVER);
        }
    }

    #[test]
    fn what_a_server_says_is_heard(message in to_agent()) {
        let frame = serde_json::to_string(&message).unwrap();
        prop_assert_eq!(serde_json::from_str::<ToAgent>(&frame).unwrap(), message.clone());
        if let Ok(decoded) = ToAgent::decode(&frame) {
            prop_assert_eq!(decoded, message);
        } else {
            prop_assert!(frame.len() > hoist_wire::limits::MAX_FRAME_TO_AGENT);
        }
    }

    #[test]
    fn no_text_stops_the_decoder(frame in any::<String>()) {
        // No panic is the promise; no text of chance is a message.
        prop_assert!(ToServer::decode(&frame).is_err());
        prop_assert!(ToAgent::decode(&frame).is_err());
    }

    #[test]
    fn a_frame_cut_anywhere_is_malformed(message in to_server(), part in 0.0..1.0_f64) {
        let frame = serde_json::to_string(&message).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "any cut will do")]
        let mut cut = (frame.len() as f64 * part) as usize;
        while !frame.is_char_boundary(cut) {
            cut -= 1;
        }
        prop_assert!(ToServer::decode(&frame[..cut]).is_err());
    }
}
