//! Keys of `storage`: the drivers, and the switches beside them.

use super::Kind::{Anything, Boolean, Duration, Integer, OneOf, Path, Section, Text, Url};
use super::{ConfigKey, ReleaseLines, Unless, key};

/// Message about a driver that does not exist yet.
const NO_BUCKETS: &str = "storage in a bucket is not supported yet; use `storage.filesystem`, or keep distribution for this registry";

const NO_DRIVER: &str =
    "this driver is not supported; copy the content to another one, such as a file system";

pub(super) const STORAGE: &[ConfigKey] = &[
    key("storage", Section).required().note("one driver, as a section or as its bare name"),
    key("storage.filesystem", Section),
    key("storage.filesystem.rootdirectory", Path).default("/var/lib/registry"),
    key("storage.filesystem.maxthreads", Integer(i64::MIN))
        .warn("has no effect: system calls are bounded by the program itself"),
    key("storage.inmemory", Section).note("content is lost when the program ends"),
    key("storage.s3", Section).refuse(NO_BUCKETS, Unless::Never).note("also as `s3aws`"),
    key("storage.s3.accesskey", Text).within().secret(),
    key("storage.s3.secretkey", Text).within().secret(),
    key("storage.s3.sessiontoken", Text).within().secret(),
    key("storage.s3.region", Text).within(),
    key("storage.s3.regionendpoint", Text).within(),
    key("storage.s3.forcepathstyle", Boolean).within().lines(ReleaseLines::Three),
    key("storage.s3.bucket", Text).within().required(),
    key("storage.s3.encrypt", Boolean).within(),
    key("storage.s3.keyid", Text).within(),
    key("storage.s3.secure", Boolean).within().default("true"),
    key("storage.s3.skipverify", Boolean).within(),
    key("storage.s3.v4auth", Boolean).within().default("true"),
    key("storage.s3.chunksize", Integer(5 << 20)).within().default("10485760"),
    key("storage.s3.multipartcopychunksize", Integer(0)).within().default("33554432"),
    key("storage.s3.multipartcopymaxconcurrency", Integer(0)).within().default("100"),
    key("storage.s3.multipartcopythresholdsize", Integer(0)).within().default("33554432"),
    key("storage.s3.rootdirectory", Text).within(),
    key("storage.s3.storageclass", Text).within().default("STANDARD"),
    key("storage.s3.useragent", Text).within(),
    key("storage.s3.objectacl", Text).within(),
    key("storage.s3.usedualstack", Boolean).within().lines(ReleaseLines::Three),
    key("storage.s3.accelerate", Boolean).within().lines(ReleaseLines::Three),
    key("storage.s3.usefipsendpoint", Boolean).within().lines(ReleaseLines::Three),
    key("storage.s3.loglevel", Text).within().lines(ReleaseLines::Three),
    key("storage.s3.redirectendpoint", Url).within().lines(ReleaseLines::Three),
    key("storage.gcs", Section).refuse(NO_BUCKETS, Unless::Never),
    key("storage.gcs.bucket", Text).within().required(),
    key("storage.gcs.keyfile", Path).within(),
    key("storage.gcs.credentials", Anything).within().secret(),
    key("storage.gcs.rootdirectory", Text).within(),
    key("storage.gcs.chunksize", Integer(256 << 10)).within().default("16777216"),
    key("storage.gcs.maxconcurrency", Integer(0)).within(),
    key("storage.gcs.useragent", Text).within(),
    key("storage.azure", Section).refuse(NO_BUCKETS, Unless::Never),
    key("storage.azure.accountname", Text).within().required(),
    key("storage.azure.accountkey", Text).within().secret(),
    key("storage.azure.container", Text).within().required(),
    key("storage.azure.connectionstring", Text).within().secret().lines(ReleaseLines::Three),
    key("storage.azure.realm", Text).within(),
    key("storage.azure.rootdirectory", Text).within().lines(ReleaseLines::Three),
    key("storage.azure.serviceurl", Url).within().lines(ReleaseLines::Three),
    key("storage.azure.credentials", Section).within().lines(ReleaseLines::Three),
    key("storage.azure.credentials.type", OneOf(&["client_secret", "shared_key", "default_credentials"]))
        .within()
        .lines(ReleaseLines::Three),
    key("storage.azure.credentials.clientid", Text).within().lines(ReleaseLines::Three),
    key("storage.azure.credentials.tenantid", Text).within().lines(ReleaseLines::Three),
    key("storage.azure.credentials.secret", Text).within().secret().lines(ReleaseLines::Three),
    key("storage.azure.max_retries", Integer(0)).within().default("5").lines(ReleaseLines::Three),
    key("storage.azure.retry_delay", Duration).within().default("100ms").lines(ReleaseLines::Three),
    key("storage.azure.skipverify", Boolean).within().lines(ReleaseLines::Three),
    key("storage.swift", Anything).secret().lines(ReleaseLines::Two).refuse(NO_DRIVER, Unless::Never),
    key("storage.oss", Anything).secret().lines(ReleaseLines::Two).refuse(NO_DRIVER, Unless::Never),
    key("storage.delete", Section),
    key("storage.delete.enabled", Boolean)
        .default("false")
        .note("false without this key, as in distribution; `serve` without a configuration deletes"),
    key("storage.cache", Section),
    key("storage.cache.blobdescriptor", Text)
        .silent("descriptors are cached in memory; `redis` is warned about"),
    key("storage.cache.blobdescriptorsize", Integer(i64::MIN)).silent("caches have sizes of their own"),
    key("storage.cache.layerinfo", Text).silent("old name of `storage.cache.blobdescriptor`"),
    key("storage.redirect", Section),
    key("storage.redirect.disable", Boolean).silent("a file system cannot redirect"),
    key("storage.tag", Section).lines(ReleaseLines::Three),
    key("storage.tag.concurrencylimit", Integer(i64::MIN))
        .lines(ReleaseLines::Three)
        .warn("has no effect: tags are looked up in an index"),
    key("storage.maintenance", Section),
    key("storage.maintenance.uploadpurging", Section).note("any subset of its keys"),
    key("storage.maintenance.uploadpurging.enabled", Boolean).default("true"),
    key("storage.maintenance.uploadpurging.age", Duration).default("168h"),
    key("storage.maintenance.uploadpurging.interval", Duration).default("24h"),
    key("storage.maintenance.uploadpurging.dryrun", Boolean)
        .default("false")
        .note("abandoned uploads are logged"),
    key("storage.maintenance.readonly", Section).note("also as a boolean"),
    key("storage.maintenance.readonly.enabled", Boolean)
        .default("false")
        .note("writes are answered with 405"),
];
