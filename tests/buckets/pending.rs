//! Uploads in parts that have not ended, as a store lists them (`ListMultipartUploads`).

use quinistry::bucket::{
    BucketOptions, Objects as _, PendingUpload, S3Keys, Secret, StoreOptions, connect, http_client,
};
use quinistry::client::{TlsOptions, client_builder};
use tokio::runtime;

use crate::support::versitygw::{ACCESS_KEY, BUCKET, SECRET_KEY, Versitygw};

/// Returns all uploads in parts of the bucket that have neither been completed nor aborted.
pub(crate) fn pending_uploads(store: &Versitygw) -> Vec<PendingUpload> {
    let url = format!("s3://{BUCKET}?region=us-east-1&pathstyle=true&endpoint=http://{}", store.address);
    let mut options: BucketOptions = url.parse().unwrap();
    let StoreOptions::S3(s3) = &mut options.store else { panic!("{url} names another store") };
    let secret_key = Secret::new(SECRET_KEY.to_owned());
    s3.keys = Some(S3Keys { access_key: ACCESS_KEY.to_owned(), secret_key, session_token: None });
    let list = async {
        let client = http_client(client_builder(&TlsOptions::default()).unwrap()).unwrap();
        connect(&options, client.into()).unwrap().list_uploads("").await.unwrap()
    };
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(list)
}
