//! What a good bucket has besides: a rule that ends lost uploads, a closed door, encryption.
//!
//! Deliberately absent: any stop. A check says `ok`, `bad` or `unknown`; the operator decides.

use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule, PublicAccessBlockConfiguration};

use super::errors::Asked;
use super::{BucketError, Check, S3Bucket, Sse, Verdict};

/// Least days after which the bucket may abort an upload: a download's 14, and one more.
pub(super) const MIN_ABORT_DAYS: i32 = 15;

impl S3Bucket {
    pub(super) async fn look_at_settings(&self, checks: &mut Vec<Check>) {
        for (name, (verdict, detail)) in [
            ("lifecycle", self.lifecycle().await),
            ("private", self.private().await),
            ("encrypted", self.encrypted().await),
        ] {
            checks.push(Check { name, verdict, detail });
        }
    }

    async fn lifecycle(&self) -> (Verdict, String) {
        let asked = self.asked("get_lifecycle", "s3:GetLifecycleConfiguration");
        let call = self.reads.get_bucket_lifecycle_configuration().bucket(&self.config.bucket);
        match Box::pin(call.send()).await {
            Ok(reply) => judge_rules(reply.rules(), &self.config.prefix),
            Err(error) => {
                let error = self.place.explain(asked, &error);
                if is(&error, "NoSuchLifecycleConfiguration") {
                    return judge_rules(&[], &self.config.prefix);
                }
                (Verdict::Unknown, error.to_string())
            }
        }
    }

    async fn private(&self) -> (Verdict, String) {
        let asked = self.asked("get_public_access", "s3:GetBucketPublicAccessBlock");
        let call = self.reads.get_public_access_block().bucket(&self.config.bucket);
        let why = match Box::pin(call.send()).await {
            Ok(reply) if reply.public_access_block_configuration.as_ref().is_some_and(blocks_all) => {
                return (Verdict::Ok, "public access is blocked".to_owned());
            }
            Ok(_) => "public access is not blocked whole".to_owned(),
            Err(error) => self.place.explain(asked, &error).to_string(),
        };
        let call = self.reads.get_bucket_policy_status().bucket(&self.config.bucket);
        match Box::pin(call.send()).await {
            Ok(reply) if reply.policy_status.as_ref().is_some_and(|s| s.is_public == Some(true)) => {
                (Verdict::Bad, "the bucket's policy makes it public: block public access".to_owned())
            }
            // A policy that is not public says nothing of the ACLs.
            Ok(_) | Err(_) => (Verdict::Unknown, why),
        }
    }

    async fn encrypted(&self) -> (Verdict, String) {
        if self.config.sse != Sse::None {
            return (Verdict::Ok, format!("each upload asks for it ({:?})", self.config.sse));
        }
        let asked = self.asked("get_encryption", "s3:GetEncryptionConfiguration");
        let call = self.reads.get_bucket_encryption().bucket(&self.config.bucket);
        match Box::pin(call.send()).await {
            Ok(reply)
                if reply
                    .server_side_encryption_configuration
                    .as_ref()
                    .is_some_and(|c| !c.rules.is_empty()) =>
            {
                (Verdict::Ok, "the bucket encrypts by default".to_owned())
            }
            Ok(_) => not_encrypted(),
            Err(error) => {
                let error = self.place.explain(asked, &error);
                if is(&error, "ServerSideEncryptionConfigurationNotFoundError") {
                    return not_encrypted();
                }
                (Verdict::Unknown, error.to_string())
            }
        }
    }

    pub(super) fn asked(&self, call: &'static str, needs: &'static str) -> Asked<'_> {
        Asked { call, key: &self.config.bucket, needs }
    }
}

/// Tells whether an error without a meaning of its own has this code.
pub(super) fn is(error: &BucketError, wanted: &str) -> bool {
    matches!(error, BucketError::Other { code, .. } if code == wanted)
}

fn not_encrypted() -> (Verdict, String) {
    (Verdict::Bad, "nothing asks for encryption: set S3_SSE=AES256, or the bucket's default".to_owned())
}

fn blocks_all(block: &PublicAccessBlockConfiguration) -> bool {
    [
        block.block_public_acls,
        block.ignore_public_acls,
        block.block_public_policy,
        block.restrict_public_buckets,
    ]
    .iter()
    .all(|flag| *flag == Some(true))
}

/// Wants a rule that aborts forgotten uploads, and none that aborts those of a living download.
fn judge_rules(rules: &[LifecycleRule], prefix: &str) -> (Verdict, String) {
    let days: Vec<i32> = rules.iter().filter_map(|rule| abort_days(rule, prefix)).collect();
    match days.iter().min() {
        Some(&least) if least < MIN_ABORT_DAYS => (
            Verdict::Bad,
            format!("uploads are aborted after {least} days: wanted are {MIN_ABORT_DAYS} or more"),
        ),
        Some(&least) => (Verdict::Ok, format!("uploads are aborted after {least} days")),
        None => (
            Verdict::Bad,
            format!("no rule aborts incomplete uploads: add one of {MIN_ABORT_DAYS} days or more"),
        ),
    }
}

/// Gives the days after which a rule aborts uploads below a prefix; none if it never does.
fn abort_days(rule: &LifecycleRule, prefix: &str) -> Option<i32> {
    if rule.status != ExpirationStatus::Enabled {
        return None;
    }
    let days = rule.abort_incomplete_multipart_upload.as_ref()?.days_after_initiation?;
    #[expect(deprecated, reason = "rules written before 2018 have their prefix there")]
    let old_prefix = rule.prefix.as_deref();
    let filter = rule.filter.as_ref();
    let in_and = filter.and_then(|filter| filter.and.as_ref()).and_then(|and| and.prefix.as_deref());
    let its = filter.and_then(|filter| filter.prefix.as_deref()).or(in_and).or(old_prefix).unwrap_or("");
    prefix.trim_start_matches('/').starts_with(its).then_some(days)
}

#[cfg(test)]
mod tests;
