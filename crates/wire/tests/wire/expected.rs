//! The value that each golden file must decode to, by the file's name.

use std::collections::BTreeMap;

use hoist_wire::claims::Claims;
use hoist_wire::reach::{Labels, Reach};
use hoist_wire::rest::{
    Client, ClientPage, ClientStatus, CloneRole, CloneSuspect, Download, DownloadChange, DownloadError,
    DownloadPage, DownloadRequest, Problem, Scope, TokenKind, TokenReply, TokenRequest,
};
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
    PartSums, ReasonCode, Sealed, State, Timestamp, ToAgent, ToServer,
};

/// 2026-11-24T12:00:00Z.
const NOON: i64 = 1_795_521_600_000;
const SIZE: u64 = 104_857_600;
const PATH: &str = "/srv/reports/2026-11-24.bin";
/// The check value of CRC-64/NVME: that of the text 123456789.
const CRC: Crc64 = Crc64(0xae8b_1486_0a79_9888);
const ATTEMPT: Attempt = Attempt(2);

fn id() -> DownloadId {
    "01937f5e-7c00-7000-8000-000000000000".parse().unwrap()
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn number(number: u16) -> PartNumber {
    PartNumber::new(number).unwrap()
}

fn md5() -> Option<Md5> {
    "1B2M2Y8AsgTpgAmY7PhCfg==".parse().ok()
}

fn identity() -> Identity {
    Identity {
        device: 2049,
        inode: 131_073,
        size_bytes: SIZE,
        modified_ns: 1_795_521_600_123_456_789,
        changed_ns: 1_795_521_600_123_456_790,
    }
}

fn at(secs: i64) -> Timestamp {
    Timestamp(NOON + secs * 1000)
}

/// Every message to the server, at least one of each kind.
pub(crate) fn to_server() -> Vec<(&'static str, ToServer)> {
    let (download_id, attempt) = (id(), ATTEMPT);
    let hello = Hello {
        agent_version: text("0.1.0"),
        os: text("linux-x86_64"),
        host: text("till-3"),
        facts: BTreeMap::from([(text("zone"), text("kitchen"))]),
        slots: 2,
        busy: vec![Busy { download_id, attempt }],
        on_change: None,
    };
    let bare = Hello { facts: BTreeMap::new(), slots: 1, busy: Vec::new(), ..hello.clone() };
    let of_a_site_that_chooses = Hello { on_change: Some(OnChange::Prefix), ..bare.clone() };
    let progress = Progress {
        download_id,
        attempt,
        hashed_bytes: 20_971_520,
        sent_bytes: 10_485_760,
        rate_bytes_per_sec: 131_072,
        waiting: None,
    };
    let waiting = Waiting {
        code: ReasonCode::StorageUnreachable,
        message: text("connection refused by bucket.example.com"),
        since_ms: 42_000,
        retry_in_ms: 8_000,
    };
    let stuck = Progress { rate_bytes_per_sec: 0, waiting: Some(waiting), ..progress.clone() };
    let refused = Refused {
        download_id,
        attempt,
        code: ErrorCode::FileNotFound,
        message: text("there is no /srv/reports/2026-11-24.bin below the roots"),
        retry_after_ms: None,
    };
    let for_now = Refused {
        code: ErrorCode::FileLocked,
        message: text("another program holds the file"),
        retry_after_ms: Some(60_000),
        ..refused.clone()
    };
    vec![
        ("hello", ToServer::Hello(hello)),
        ("hello_bare", ToServer::Hello(bare)),
        ("hello_on_change", ToServer::Hello(of_a_site_that_chooses)),
        ("offer", ToServer::Offer(offer())),
        ("parts_ready", ToServer::PartsReady(parts_ready())),
        ("receipts", ToServer::Receipts(receipts())),
        ("progress", ToServer::Progress(progress)),
        ("progress_waiting", ToServer::Progress(stuck)),
        (
            "finished",
            ToServer::Finished(Finished {
                download_id,
                attempt,
                size_bytes: SIZE,
                crc64nvme: CRC,
                identity: identity(),
            }),
        ),
        ("refused", ToServer::Refused(refused)),
        ("refused_for_now", ToServer::Refused(for_now)),
        ("forgotten", ToServer::Forgotten(Forgotten { download_id, attempt })),
        ("unsupported", ToServer::Unsupported(Unsupported { kind: text("of_a_newer_server") })),
    ]
}

fn offer() -> Offer {
    Offer {
        download_id: id(),
        attempt: ATTEMPT,
        path: text(PATH),
        name: text("2026-11-24.bin"),
        size_bytes: SIZE,
        modified_ms: NOON + 123,
        identity: identity(),
    }
}

fn parts_ready() -> PartsReady {
    let size_bytes = 5_242_880;
    let parts = vec![
        ReadyPart { number: number(1), size_bytes, sums: PartSums { crc64nvme: CRC, md5: None } },
        ReadyPart { number: number(2), size_bytes, sums: PartSums { crc64nvme: Crc64(0), md5: md5() } },
    ];
    PartsReady { download_id: id(), attempt: ATTEMPT, parts: Batch::new(parts).unwrap() }
}

fn receipts() -> Receipts {
    let receipt = Receipt {
        number: number(1),
        size_bytes: 5_242_880,
        etag: text("d41d8cd98f00b204e9800998ecf8427e"),
        sums: PartSums { crc64nvme: CRC, md5: md5() },
    };
    Receipts { download_id: id(), attempt: ATTEMPT, parts: receipt.into() }
}

/// Every message to an agent, at least one of each kind.
pub(crate) fn to_agent() -> Vec<(&'static str, ToAgent)> {
    let (download_id, attempt) = (id(), ATTEMPT);
    let fetch = Fetch {
        download_id,
        attempt,
        path: Some(text(PATH)),
        on_change: OnChange::Restart,
        max_rate_bytes_per_sec: None,
    };
    let max_rate_bytes_per_sec = Some(250_000);
    let paced = Fetch { max_rate_bytes_per_sec, ..fetch.clone() };
    let pace = Pace { download_id, attempt, max_rate_bytes_per_sec };
    let default = Fetch { path: None, on_change: OnChange::Prefix, ..fetch.clone() };
    let welcome = Welcome { link: LinkSeq(7), server_time: Timestamp(NOON + 123), ping_interval_secs: 15 };
    let accept = Accept {
        download_id,
        attempt,
        part_size_bytes: 5_242_880,
        checksum: ChecksumKind::Crc64nvme,
        encoding: Encoding::Identity,
    };
    let goodbye = Goodbye {
        reason: GoodbyeReason::Stopping,
        message: text("the server is restarting"),
        reconnect_after_ms: 1500,
    };
    let token = Sealed::new("header.payload.5ea1ed");
    vec![
        ("welcome", ToAgent::Welcome(welcome)),
        ("fetch", ToAgent::Fetch(fetch)),
        ("fetch_default", ToAgent::Fetch(default)),
        ("fetch_paced", ToAgent::Fetch(paced)),
        ("accept", ToAgent::Accept(accept)),
        ("parts", ToAgent::Parts(parts())),
        ("pace", ToAgent::Pace(pace)),
        ("pace_free", ToAgent::Pace(Pace { max_rate_bytes_per_sec: None, ..pace })),
        ("forget", ToAgent::Forget(Forget { download_id, attempt, outcome: Outcome::Cancelled })),
        ("renew", ToAgent::Renew(Renew { token, expires_at: at(90 * 24 * 3600) })),
        ("goodbye", ToAgent::Goodbye(goodbye)),
        ("unsupported", ToAgent::Unsupported(Unsupported { kind: text("of_a_newer_agent") })),
    ]
}

fn parts() -> Parts {
    let grant = Grant {
        url: Sealed::new(
            "https://bucket.example.com/hoist/restaurant-1/report.bin?partNumber=1&X-Amz-Signature=5ea1ed",
        ),
        headers: BTreeMap::from([
            (text("content-length"), text("5242880")),
            (text("x-amz-checksum-crc64nvme"), CRC.to_string()),
        ]),
        expires_in_secs: 900,
    };
    let wait = Wait { code: ReasonCode::BucketUnavailable, retry_in_ms: 5000 };
    let answers = [Answer::Put(grant), Answer::Stored, Answer::Wait(wait)];
    let parts = (1..).zip(answers).map(|(n, answer)| PartAnswer { number: number(n), answer }).collect();
    Parts { download_id: id(), attempt: ATTEMPT, parts: Batch::new(parts).unwrap() }
}

pub(crate) fn download_request() -> DownloadRequest {
    DownloadRequest {
        file_path: Some(text(PATH)),
        metadata: BTreeMap::from([(text("ticket"), text("4711"))]),
        ttl_secs: Some(172_800),
        on_change: Some(OnChange::Fail),
        max_rate_bytes_per_sec: None,
        allow_unknown: true,
    }
}

pub(crate) fn download_request_paced() -> DownloadRequest {
    DownloadRequest { max_rate_bytes_per_sec: Some(250_000), ..DownloadRequest::default() }
}

pub(crate) fn download_change() -> DownloadChange {
    DownloadChange { max_rate_bytes_per_sec: Some(250_000) }
}

pub(crate) fn download_change_free() -> DownloadChange {
    DownloadChange { max_rate_bytes_per_sec: None }
}

pub(crate) fn queued() -> Download {
    Download {
        id: id(),
        client_id: "restaurant-1".parse().unwrap(),
        file_path: None,
        state: State::Queued,
        reason: Some(ReasonCode::ClientOffline),
        reason_message: Some(text("restaurant-1 is not connected")),
        reason_since: Some(at(0)),
        next_step: Some(text("it starts when the client connects")),
        next_at: Some(at(14 * 24 * 3600)),
        expires_at: at(14 * 24 * 3600),
        attempt: 0,
        size_bytes: None,
        sent_bytes: 0,
        stored_bytes: 0,
        rate_bytes_per_sec: None,
        max_rate_bytes_per_sec: None,
        bucket: text("files"),
        object_key: None,
        checksum_crc64nvme: None,
        proof: None,
        error: None,
        on_change: OnChange::Restart,
        metadata: BTreeMap::new(),
        requested_by: text("ann"),
        created_at: at(0),
        started_at: None,
        updated_at: at(0),
        finished_at: None,
    }
}

pub(crate) fn paced() -> Download {
    Download { max_rate_bytes_per_sec: Some(250_000), ..queued() }
}

fn ended(state: State, path: &str, attempt: u32, after_secs: i64) -> Download {
    Download {
        file_path: Some(text(path)),
        state,
        reason: None,
        reason_message: None,
        reason_since: None,
        next_step: None,
        next_at: None,
        attempt,
        started_at: Some(at(1)),
        updated_at: at(after_secs),
        finished_at: Some(at(after_secs)),
        ..queued()
    }
}

pub(crate) fn completed() -> Download {
    Download {
        size_bytes: Some(SIZE),
        sent_bytes: SIZE,
        stored_bytes: SIZE,
        object_key: Some(format!("hoist/restaurant-1/20261124-120000-{}-2026-11-24.bin", id())),
        checksum_crc64nvme: Some(CRC.to_string()),
        proof: Some(ChecksumKind::Crc64nvme),
        metadata: BTreeMap::from([(text("ticket"), text("4711"))]),
        ..ended(State::Completed, PATH, 2, 60)
    }
}

pub(crate) fn failed() -> Download {
    let message = text("there is no /srv/x below the roots");
    Download {
        error: Some(DownloadError { code: ErrorCode::FileNotFound, message }),
        ..ended(State::Failed, "/srv/x", 1, 2)
    }
}

pub(crate) fn download_page() -> DownloadPage {
    DownloadPage { downloads: vec![queued()], next: Some(text("cursor-2")) }
}

pub(crate) fn client() -> Client {
    Client {
        client_id: "restaurant-1".parse().unwrap(),
        connected: true,
        since: Some(at(0)),
        last_seen: Some(at(15)),
        version: Some(text("0.1.0")),
        os: Some(text("linux-x86_64")),
        host: Some(text("till-3")),
        token_expires_at: Some(at(90 * 24 * 3600)),
        identity: None,
        token_kid: None,
        token_secret_is_old: false,
        enrolled_at: None,
        revoked_at: None,
        clone_suspected_at: None,
        clone_suspects: Vec::new(),
        labels: Labels::new(),
    }
}

pub(crate) fn cloned_client() -> Client {
    let linked = CloneSuspect {
        role: CloneRole::Linked,
        machine: Some(text("0a1b2c3d4e5f60718293a4b5c6d7e8f9")),
        process: Some(text("00f1e2d3c4b5a697")),
        host: Some(text("till-3")),
    };
    let refused = CloneSuspect {
        role: CloneRole::Refused,
        machine: Some(text("9f8e7d6c5b4a39281706f5e4d3c2b1a0")),
        process: Some(text("8877665544332211")),
        host: None,
    };
    Client { clone_suspected_at: Some(at(60)), clone_suspects: vec![linked, refused], ..client() }
}

pub(crate) fn labelled_client() -> Client {
    Client { labels: labels(), ..client() }
}

fn labels() -> Labels {
    [("kind", "till"), ("region", "north")].map(|(name, value)| (text(name), text(value))).into()
}

fn reach() -> Reach {
    Reach { prefix: Some(text("north-")), labels: labels() }
}

pub(crate) fn client_page() -> ClientPage {
    let never_seen = Client {
        client_id: "restaurant-2".parse().unwrap(),
        connected: false,
        since: None,
        last_seen: None,
        version: None,
        os: None,
        host: None,
        token_expires_at: None,
        identity: None,
        token_kid: None,
        token_secret_is_old: false,
        enrolled_at: None,
        revoked_at: None,
        clone_suspected_at: None,
        clone_suspects: Vec::new(),
        labels: Labels::new(),
    };
    ClientPage { clients: vec![never_seen], next: None }
}

pub(crate) fn client_status() -> ClientStatus {
    ClientStatus {
        client_id: "restaurant-1".parse().unwrap(),
        connected: true,
        since: Some(at(0)),
        last_seen: Some(at(15)),
        version: Some(text("0.1.0")),
        identity: None,
        token_kid: None,
        token_secret_is_old: false,
        revoked_at: None,
        clone_suspected_at: None,
        clone_suspects: Vec::new(),
        labels: Labels::new(),
        current: vec![queued()],
        recent: Vec::new(),
    }
}

pub(crate) fn token_request() -> TokenRequest {
    TokenRequest {
        kind: TokenKind::Operator,
        subject: text("ann"),
        scopes: vec![Scope::Read, Scope::Download, Scope::Admin],
        clients: None,
        ttl_secs: Some(7_776_000),
    }
}

pub(crate) fn token_request_client() -> TokenRequest {
    TokenRequest {
        kind: TokenKind::Client,
        subject: text("restaurant-1"),
        scopes: Vec::new(),
        clients: None,
        ttl_secs: None,
    }
}

pub(crate) fn token_request_bound() -> TokenRequest {
    TokenRequest { clients: Some(reach()), ..token_request() }
}

pub(crate) fn token_reply() -> TokenReply {
    TokenReply { token: Sealed::new("header.payload.5ea1ed"), expires_at: at(90 * 24 * 3600) }
}

pub(crate) fn problem() -> Problem {
    Problem {
        r#type: text("about:blank"),
        title: text("Not Found"),
        status: 404,
        detail: text("no client restaurant-9 was ever seen"),
        code: ErrorCode::UnknownClient,
    }
}

pub(crate) fn agent_claims() -> Claims {
    Claims {
        sub: text("restaurant-1"),
        aud: text(hoist_wire::AGENT_AUDIENCE),
        exp: 1_803_297_600,
        iat: 1_795_521_600,
        jti: text("5f0c"),
        scopes: Vec::new(),
        clients: None,
    }
}

pub(crate) fn operator_claims() -> Claims {
    Claims {
        sub: text("ann"),
        aud: text(hoist_wire::OPERATOR_AUDIENCE),
        jti: text("5f0d"),
        scopes: vec![Scope::Read, Scope::Download],
        ..agent_claims()
    }
}

pub(crate) fn bound_claims() -> Claims {
    Claims { clients: Some(reach()), ..operator_claims() }
}
