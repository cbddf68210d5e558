//! Each verdict on each setting: what storage answers, and what `/ready` says of it.

use aws_sdk_s3::types::{AbortIncompleteMultipartUpload, LifecycleRuleFilter};
use hoist_wire::ChecksumKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::Url;

use super::super::{S3Config, StaticCredentials};
use super::*;

/// What storage answers when it is asked for a setting, by the word in the query.
type Answers<'a> = &'a [(&'a str, u16, &'a str)];

/// Looks at the settings of a bucket whose storage answers so, and 403 AccessDenied to all else.
async fn verdicts(sse: Sse, answers: Answers<'_>) -> Vec<Check> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let config = S3Config {
        bucket: "files".to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(Url::parse(&endpoint).unwrap()),
        public_endpoint: None,
        download_endpoint: None,
        prefix: "hoist".to_owned(),
        sse,
        credentials: Some(StaticCredentials { access_key: "AK".to_owned(), secret_key: "sk".into() }),
        strongest: ChecksumKind::Crc64nvme,
        allow_unproven: false,
        page_size: None,
    };
    let bucket = S3Bucket::connect(config).await.unwrap();
    let storage = async {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
            }
            let line = String::from_utf8_lossy(&request).lines().next().unwrap().to_owned();
            let answer = answers.iter().find(|(word, ..)| line.contains(word));
            let (status, body) =
                answer.map_or((403, DENIED.to_owned()), |(_, status, body)| (*status, (*body).to_owned()));
            let head =
                format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    };
    let mut checks = Vec::new();
    tokio::select! {
        () = bucket.look_at_settings(&mut checks) => {}
        () = storage => unreachable!("storage never ends"),
    }
    checks
}

const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";

/// Gives the verdict on one setting.
async fn verdict(name: &str, sse: Sse, answers: Answers<'_>) -> (Verdict, String) {
    let checks = verdicts(sse, answers).await;
    let check = checks.into_iter().find(|check| check.name == name).unwrap();
    assert!(!check.detail.is_empty(), "{name}: {:?} without a word", check.verdict);
    (check.verdict, check.detail)
}

fn lifecycle(days: u8) -> String {
    format!(
        "<LifecycleConfiguration><Rule><ID>abort</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>\
         <AbortIncompleteMultipartUpload><DaysAfterInitiation>{days}</DaysAfterInitiation>\
         </AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>"
    )
}

#[tokio::test]
async fn a_lifecycle_rule_is_ok_bad_or_unknown() {
    let none = "<Error><Code>NoSuchLifecycleConfiguration</Code><Message>none</Message></Error>";
    let (good, short) = (lifecycle(15), lifecycle(14));
    for (status, body, expected, word) in [
        (200, good.as_str(), Verdict::Ok, "after 15 days"),
        // A download may take 14 days from its last part: a rule of as many can take a living one's upload away.
        (200, &short, Verdict::Bad, "15 or more"),
        (404, none, Verdict::Bad, "add one"),
        (403, DENIED, Verdict::Unknown, "s3:GetLifecycleConfiguration"),
    ] {
        let (seen, detail) = verdict("lifecycle", Sse::None, &[("?lifecycle", status, body)]).await;
        assert_eq!(seen, expected, "{body}: {detail}");
        assert!(detail.contains(word), "{body}: {detail}");
    }
}

fn public_access_block(blocks: bool) -> String {
    let flags = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
    let rest: String = flags[1..].iter().map(|flag| format!("<{flag}>true</{flag}>")).collect();
    format!(
        "<PublicAccessBlockConfiguration><{0}>{blocks}</{0}>{rest}</PublicAccessBlockConfiguration>",
        flags[0]
    )
}

#[tokio::test]
async fn a_bucket_is_private_public_or_nobody_can_tell() {
    let (whole, partial) = (public_access_block(true), public_access_block(false));
    let none = "<Error><Code>NoSuchPublicAccessBlockConfiguration</Code><Message>none</Message></Error>";
    let policy = |is: bool| format!("<PolicyStatus><IsPublic>{is}</IsPublic></PolicyStatus>");
    let (public, private) = (policy(true), policy(false));
    let no_policy = "<Error><Code>NoSuchBucketPolicy</Code><Message>none</Message></Error>";
    for (block, status, expected) in [
        ((200, whole.as_str()), (200, public.as_str()), Verdict::Ok),
        ((200, &partial), (200, &public), Verdict::Bad),
        ((404, none), (200, &public), Verdict::Bad),
        // A policy that is not public says nothing of the ACLs.
        ((404, none), (200, &private), Verdict::Unknown),
        ((404, none), (404, no_policy), Verdict::Unknown),
        ((403, DENIED), (403, DENIED), Verdict::Unknown),
    ] {
        let answers = [("?publicAccessBlock", block.0, block.1), ("?policyStatus", status.0, status.1)];
        let (seen, detail) = verdict("private", Sse::None, &answers).await;
        assert_eq!(seen, expected, "{block:?} and {status:?}: {detail}");
    }
}

#[tokio::test]
async fn encryption_is_asked_for_by_default_or_nobodys() {
    let rules = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
         <SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>\
         </ServerSideEncryptionConfiguration>";
    let none =
        "<Error><Code>ServerSideEncryptionConfigurationNotFoundError</Code><Message>none</Message></Error>";
    for (sse, status, body, expected) in [
        (Sse::Aes256, 403, DENIED, Verdict::Ok),
        (Sse::Kms, 404, none, Verdict::Ok),
        (Sse::None, 200, rules, Verdict::Ok),
        (Sse::None, 200, "<ServerSideEncryptionConfiguration/>", Verdict::Bad),
        (Sse::None, 404, none, Verdict::Bad),
        (Sse::None, 403, DENIED, Verdict::Unknown),
    ] {
        let (seen, detail) = verdict("encrypted", sse, &[("?encryption", status, body)]).await;
        assert_eq!(seen, expected, "{sse:?} and {body}: {detail}");
    }
}

fn rule(days: i32, prefix: &str, status: ExpirationStatus) -> LifecycleRule {
    LifecycleRule::builder()
        .status(status)
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
        .abort_incomplete_multipart_upload(
            AbortIncompleteMultipartUpload::builder().days_after_initiation(days).build(),
        )
        .build()
        .unwrap()
}

#[test]
fn the_lifecycle_rule_must_outlast_a_download() {
    use ExpirationStatus::{Disabled, Enabled};
    let verdict = |rules: &[LifecycleRule]| judge_rules(rules, "hoist/site").0;
    assert_eq!(verdict(&[rule(15, "", Enabled)]), Verdict::Ok);
    assert_eq!(verdict(&[rule(14, "", Enabled)]), Verdict::Bad);
    assert_eq!(verdict(&[rule(30, "hoist/", Enabled), rule(7, "other/", Enabled)]), Verdict::Ok);
    assert_eq!(verdict(&[rule(30, "hoist/", Enabled), rule(7, "", Enabled)]), Verdict::Bad);
    assert_eq!(verdict(&[rule(30, "", Disabled)]), Verdict::Bad);
    assert_eq!(verdict(&[]), Verdict::Bad);
}
