//! The agent against a scripted server and bucket, all in this process.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the messages that it waits for")]

mod hostile;
mod links;
mod proxy;
mod rates;
mod support;
mod tls;
mod uploads;

use crc_fast::{CrcAlgorithm, checksum};
use hoist_wire::{Crc64, ToServer};

pub(crate) fn crc(bytes: &[u8]) -> Crc64 {
    Crc64(checksum(CrcAlgorithm::Crc64Nvme, bytes))
}

pub(crate) fn numbers(message: &ToServer) -> Vec<u16> {
    match message {
        ToServer::PartsReady(ready) => ready.parts.iter().map(|part| part.number.get()).collect(),
        ToServer::Receipts(receipts) => receipts.parts.iter().map(|part| part.number.get()).collect(),
        other => panic!("{other:?} names no parts"),
    }
}
