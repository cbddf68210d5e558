//! A bucket made by `--create-bucket`, with what a good one has.
//!
//! Deliberately absent: any change to a bucket that was there before.

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint,
    CreateBucketConfiguration, ExpirationStatus, LifecycleRule, LifecycleRuleFilter,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
};

use super::checks::{MIN_ABORT_DAYS, is};
use super::{BucketError, Check, S3Bucket, Sse, Verdict};

impl S3Bucket {
    /// Makes the bucket, then closes, encrypts and tidies it as far as storage can; what it cannot is told.
    pub(super) async fn make_bucket(&self, checks: &mut Vec<Check>) -> Result<(), BucketError> {
        let bucket = &self.config.bucket;
        let region = self.config.region.as_str();
        let place = (region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        let asked = self.asked("create_bucket", "s3:CreateBucket");
        let call = self.once.create_bucket().bucket(bucket).set_create_bucket_configuration(place);
        if let Err(error) = Box::pin(call.send()).await {
            let error = self.place.explain(asked, &error);
            // Another node was faster.
            if !is(&error, "BucketAlreadyOwnedByYou") {
                return Err(error);
            }
        }
        self.close(checks).await;
        // A store without keys of its own takes the rule, and then refuses every upload (SeaweedFS 4.48).
        if self.config.sse != Sse::None {
            self.encrypt(checks).await;
        }
        self.tidy(checks).await;
        Ok(())
    }

    async fn close(&self, checks: &mut Vec<Check>) {
        let block = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .ignore_public_acls(true)
            .block_public_policy(true)
            .restrict_public_buckets(true)
            .build();
        let call = self
            .once
            .put_public_access_block()
            .bucket(&self.config.bucket)
            .public_access_block_configuration(block);
        let done = Box::pin(call.send()).await.map(drop);
        let asked = self.asked("put_public_access_block", "s3:PutBucketPublicAccessBlock");
        checks.push(told("made_private", done.map_err(|error| self.place.explain(asked, &error))));
    }

    async fn encrypt(&self, checks: &mut Vec<Check>) {
        let asked = self.asked("put_encryption", "s3:PutEncryptionConfiguration");
        let by_default = ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256);
        let Ok(by_default) = by_default.build() else { return };
        let rule = ServerSideEncryptionRule::builder().apply_server_side_encryption_by_default(by_default);
        let Ok(rules) = ServerSideEncryptionConfiguration::builder().rules(rule.build()).build() else {
            return;
        };
        let call = self
            .once
            .put_bucket_encryption()
            .bucket(&self.config.bucket)
            .server_side_encryption_configuration(rules);
        let done = Box::pin(call.send()).await.map(drop);
        checks.push(told("made_encrypted", done.map_err(|error| self.place.explain(asked, &error))));
    }

    async fn tidy(&self, checks: &mut Vec<Check>) {
        let asked = self.asked("put_lifecycle", "s3:PutLifecycleConfiguration");
        let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(MIN_ABORT_DAYS).build();
        let rule = LifecycleRule::builder()
            .id("hoist-abort-incomplete-uploads")
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix("").build())
            .abort_incomplete_multipart_upload(abort);
        let Ok(rule) = rule.build() else { return };
        let Ok(rules) = BucketLifecycleConfiguration::builder().rules(rule).build() else { return };
        let call = self
            .once
            .put_bucket_lifecycle_configuration()
            .bucket(&self.config.bucket)
            .lifecycle_configuration(rules);
        let done = Box::pin(call.send()).await.map(drop);
        checks.push(told("made_tidy", done.map_err(|error| self.place.explain(asked, &error))));
    }
}

fn told(name: &'static str, done: Result<(), BucketError>) -> Check {
    match done {
        Ok(()) => Check { name, verdict: Verdict::Ok, detail: "set on the new bucket".to_owned() },
        Err(error) => Check { name, verdict: Verdict::Bad, detail: error.to_string() },
    }
}
