//! The look at a bucket when the server starts: is it there, may we, and what can it prove?
//!
//! Deliberately absent: memory. The caller keeps what was found; a probe costs about fifteen calls.

use hoist_wire::ChecksumKind;

use super::errors::{Asked, Place};
use super::trial::{Scratch, Stop};
use super::{Bucket as _, BucketError, Check, Probe, S3Bucket, Verdict};

impl S3Bucket {
    pub(super) async fn run_probe(&self, create: bool) -> Result<Probe, BucketError> {
        let mut checks = Vec::new();
        match self.look_for_bucket().await {
            Err(BucketError::NoSuchBucket { .. }) if create => self.make_bucket(&mut checks).await?,
            looked => looked?,
        }
        // Settling a lost Complete rests on this: an absent key must be told apart from a forbidden one.
        let absent = Scratch::new(&self.config.prefix)?.key;
        if self.head(&absent).await?.is_some() {
            return Err(BucketError::Other {
                call: "probe",
                key: absent,
                status: 200,
                code: "FoundAbsentKey".to_owned(),
                message: "storage says that a random key exists: its answers to HEAD prove nothing"
                    .to_owned(),
            });
        }
        let checksum = self.best_proof(&mut checks).await?;
        self.look_at_settings(&mut checks).await;
        Ok(Probe { checksum, checks })
    }

    async fn look_for_bucket(&self) -> Result<(), BucketError> {
        let asked = Asked { call: "head_bucket", key: &self.config.bucket, needs: "s3:ListBucket" };
        let call = self.reads.head_bucket().bucket(&self.config.bucket);
        let Err(error) = Box::pin(call.send()).await else { return Ok(()) };
        // A HEAD has no body: 404 is all there is.
        let error = self.place.explain(asked, &error);
        let absent = matches!(error, BucketError::Other { status: 404, .. });
        Err(if absent { no_such_bucket(&self.place) } else { error })
    }

    /// Tries the kinds of proof, the best first.
    async fn best_proof(&self, checks: &mut Vec<Check>) -> Result<ChecksumKind, BucketError> {
        let mut reasons = Vec::new();
        let kinds = [ChecksumKind::Crc64nvme, ChecksumKind::PartMd5, ChecksumKind::Unproven];
        for kind in kinds.into_iter().skip_while(|kind| *kind != self.config.strongest) {
            if kind == ChecksumKind::Unproven && !self.config.allow_unproven {
                break;
            }
            let mut seen = Vec::new();
            match self.try_on_scratch(kind, &mut seen).await {
                Ok(()) => {
                    let verdict = if kind == ChecksumKind::Crc64nvme { Verdict::Ok } else { Verdict::Bad };
                    reasons.push(format!("{} works", kind.as_str()));
                    checks.push(Check { name: "checksum", verdict, detail: reasons.join("; ") });
                    checks.extend(seen);
                    return Ok(kind);
                }
                Err(Stop::NotThis(reason)) => {
                    reasons.push(format!("{} does not work: {reason}", kind.as_str()));
                }
                Err(Stop::Fatal(error)) => return Err(error),
            }
        }
        Err(BucketError::Other {
            call: "probe",
            key: self.config.bucket.clone(),
            status: 0,
            code: "NoProof".to_owned(),
            message: format!(
                "this bucket can prove no upload ({}); start with --allow-unproven to do without proof",
                reasons.join("; ")
            ),
        })
    }
}

fn no_such_bucket(place: &Place) -> BucketError {
    BucketError::NoSuchBucket { bucket: place.bucket.clone(), mend: place.create_command() }
}
