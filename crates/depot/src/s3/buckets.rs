//! Buckets: create, look, list; and what the depot says of their configuration, which is fixed.

use http::StatusCode;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Operations;
use crate::records::timestamp;

impl Operations {
    pub(super) async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = req.input.bucket;
        let location = Some(format!("/{bucket}"));
        let store = self.store.clone();
        self.store.run(move || store.create_bucket(&bucket)).await?;
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    pub(super) fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        let name = req.input.bucket;
        self.store.bucket(&name)?;
        let bucket_region = Some(self.region.clone());
        Ok(S3Response::new(HeadBucketOutput { bucket_region, ..Default::default() }))
    }

    pub(super) fn list_buckets(
        &self,
        _req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.store.buckets().into_iter().map(|(name, bucket)| Bucket {
            bucket_region: None,
            creation_date: Some(timestamp(bucket.record.created_ms)),
            name: Some(name),
        });
        let buckets = Some(buckets.collect());
        Ok(S3Response::new(ListBucketsOutput { buckets, ..Default::default() }))
    }

    pub(super) fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let name = req.input.bucket;
        self.store.bucket(&name)?;
        // S3's oldest region is the one without a name.
        let named = Some(self.region.clone()).filter(|region| region != "us-east-1");
        let location_constraint = named.map(BucketLocationConstraint::from);
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
    }

    /// The depot never answers a request without a signature.
    pub(super) fn get_public_access_block(
        &self,
        req: S3Request<GetPublicAccessBlockInput>,
    ) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
        let name = req.input.bucket;
        self.store.bucket(&name)?;
        let blocked = PublicAccessBlockConfiguration {
            block_public_acls: Some(true),
            block_public_policy: Some(true),
            ignore_public_acls: Some(true),
            restrict_public_buckets: Some(true),
        };
        let public_access_block_configuration = Some(blocked);
        Ok(S3Response::new(GetPublicAccessBlockOutput { public_access_block_configuration }))
    }

    pub(super) fn get_bucket_encryption(
        &self,
        req: S3Request<GetBucketEncryptionInput>,
    ) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
        let name = req.input.bucket;
        self.store.bucket(&name)?;
        let mut error = s3_error!(
            ServerSideEncryptionConfigurationNotFoundError,
            "the depot keeps its files as they came: encrypt the disk"
        );
        error.set_status_code(StatusCode::NOT_FOUND);
        Err(error)
    }

    pub(super) fn get_bucket_lifecycle_configuration(
        &self,
        req: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        let name = req.input.bucket;
        self.store.bucket(&name)?;
        Err(s3_error!(NoSuchLifecycleConfiguration, "the depot removes nothing by itself"))
    }
}
