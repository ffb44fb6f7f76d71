//! Keys of `storage`: the drivers, and the switches beside them.

use super::Kind::{Anything, Boolean, Duration, Integer, OneOf, Path, Section, Size, Text, Url};
use super::{ConfigKey, ReleaseLines, Unless, key};

const NO_DRIVER: &str =
    "this driver is not supported; copy the content to another one, such as a file system";

pub(super) const STORAGE: &[ConfigKey] = &[
    key("storage", Section).required().note("one driver, as a section or as its bare name"),
    key("storage.filesystem", Section),
    key("storage.filesystem.rootdirectory", Path).default("/var/lib/registry"),
    key("storage.filesystem.maxthreads", Integer(i64::MIN))
        .warn("has no effect: system calls are bounded by the program itself"),
    key("storage.inmemory", Section).note("content is lost when the program ends"),
    key("storage.s3", Section).note("also as `s3aws`"),
    key("storage.s3.accesskey", Text)
        .secret()
        .note("without keys those of `AWS_*`, a web identity, a container or the instance's metadata (IMDSv2) are used"),
    key("storage.s3.secretkey", Text).secret(),
    key("storage.s3.sessiontoken", Text).secret().note("used, where distribution ignores it"),
    key("storage.s3.region", Text).note("needed without `regionendpoint`; any name"),
    key("storage.s3.regionendpoint", Text).note("URL, or host and port, of a store that is not Amazon's"),
    key("storage.s3.forcepathstyle", Boolean)
        .lines(ReleaseLines::Three)
        .note("when absent: true with `regionendpoint`, as in 2.8"),
    key("storage.s3.bucket", Text).required(),
    key("storage.s3.encrypt", Boolean).default("false").note("AES256, or `aws:kms` with `keyid`"),
    key("storage.s3.keyid", Text),
    key("storage.s3.secure", Boolean).default("true").note("`https` for a `regionendpoint` without a scheme"),
    key("storage.s3.skipverify", Boolean).default("false").note("warned about when true"),
    key("storage.s3.v4auth", Boolean).default("true").silent("requests are always signed by version 4; false is refused"),
    key("storage.s3.chunksize", Integer(5 << 20)).default("10485760").note("bytes, from 5 MiB to 5 GiB"),
    key("storage.s3.multipartcopychunksize", Integer(0)).default("33554432").note("bytes, from 5 MiB to 5 GiB"),
    key("storage.s3.multipartcopymaxconcurrency", Integer(0)).default("100").note("32 at most"),
    key("storage.s3.multipartcopythresholdsize", Integer(0)).default("33554432").note("bytes, 5 GiB at most"),
    key("storage.s3.rootdirectory", Text).note("a path with an empty component (`a//b`) is refused"),
    key("storage.s3.storageclass", Text).default("STANDARD").note("`NONE` sends none; archives are refused"),
    key("storage.s3.useragent", Text).note("appended to the program's own"),
    key("storage.s3.objectacl", Text).note("sent if it is not `private`, where distribution always sends one"),
    key("storage.s3.usedualstack", Boolean).default("false").lines(ReleaseLines::Three),
    key("storage.s3.accelerate", Boolean).default("false").lines(ReleaseLines::Three),
    key("storage.s3.usefipsendpoint", Boolean).default("false").lines(ReleaseLines::Three).note("warned about when true"),
    key("storage.s3.loglevel", Text).lines(ReleaseLines::Three).warn("has no effect: requests to the store are not logged"),
    key("storage.s3.redirectendpoint", Text)
        .lines(ReleaseLines::Three)
        .note("host for which URLs are signed, in path style; a path is refused"),
    key("storage.gcs", Section),
    key("storage.gcs.bucket", Text).required(),
    key("storage.gcs.keyfile", Path)
        .note("key of a service account, or an `external_account`; without one that of `GOOGLE_APPLICATION_CREDENTIALS`, else the metadata server"),
    key("storage.gcs.credentials", Anything).secret().note("the same as a map"),
    key("storage.gcs.rootdirectory", Text),
    key("storage.gcs.chunksize", Integer(256 << 10))
        .default("16777216")
        .note("bytes, a multiple of 256 KiB; parts have 5 MiB at least"),
    key("storage.gcs.maxconcurrency", Integer(0)).note("requests at the same time, from 25 to 256"),
    key("storage.gcs.useragent", Text).note("appended to the program's own"),
    key("storage.azure", Section),
    key("storage.azure.accountname", Text).required(),
    key("storage.azure.accountkey", Text).secret(),
    key("storage.azure.container", Text).required(),
    key("storage.azure.connectionstring", Text).secret().lines(ReleaseLines::Three).refuse(
        "distribution reads it and never uses it; use `accountname` with `accountkey` or `credentials`",
        Unless::Idle,
    ),
    key("storage.azure.realm", Text).default("core.windows.net"),
    key("storage.azure.rootdirectory", Text).lines(ReleaseLines::Three),
    key("storage.azure.serviceurl", Url).lines(ReleaseLines::Three).note("URL of the account, also with a path"),
    key("storage.azure.credentials", Section).lines(ReleaseLines::Three),
    key("storage.azure.credentials.type", OneOf(&["client_secret", "shared_key", "default_credentials"]))
        .lines(ReleaseLines::Three)
        .note("when absent: `shared_key` with `accountkey`, else a workload identity or a managed identity"),
    key("storage.azure.credentials.clientid", Text).lines(ReleaseLines::Three),
    key("storage.azure.credentials.tenantid", Text).lines(ReleaseLines::Three),
    key("storage.azure.credentials.secret", Text).secret().lines(ReleaseLines::Three),
    key("storage.azure.max_retries", Integer(-1)).default("5").lines(ReleaseLines::Three).note("-1 for none"),
    key("storage.azure.retry_delay", Duration).default("100ms").lines(ReleaseLines::Three),
    key("storage.azure.skipverify", Boolean).default("false").lines(ReleaseLines::Three).note("warned about when true"),
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
    key("storage.redirect.disable", Boolean)
        .default("false")
        .note("blobs of a bucket are sent by this registry; a file system cannot redirect in any case"),
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

pub(super) const OWN: &[ConfigKey] = &[
    key("quinistry.exclusive", Boolean).default("false").lines(ReleaseLines::Own).note(
        "no other process writes to the storage; needed on NFS and SMB, and where a store cannot create a key only if it is absent",
    ),
    key("quinistry.coherence", OneOf(&["strict", "relaxed"]))
        .lines(ReleaseLines::Own)
        .note("changes of other replicas are seen at once, or within a second; `strict` on a bucket, else `relaxed`"),
    key("quinistry.redirect", Section).lines(ReleaseLines::Own),
    key("quinistry.redirect.expiry", Duration)
        .default("20m")
        .lines(ReleaseLines::Own)
        .note("least lifetime of a signed URL, from `1m` to `167h55m`"),
    key("quinistry.redirect.minsize", Size)
        .default("64KiB")
        .lines(ReleaseLines::Own)
        .note("shorter blobs are sent by this registry"),
    key("quinistry.uploads", Section).lines(ReleaseLines::Own),
    key("quinistry.uploads.memory", Size)
        .default("256MiB")
        .lines(ReleaseLines::Own)
        .note("for the parts of all uploads to a bucket and the bytes of pulls that are read ahead; at least `chunksize`"),
    key("quinistry.azure", Section).lines(ReleaseLines::Own),
    key("quinistry.azure.legacyroot", Boolean)
        .default("false")
        .lines(ReleaseLines::Own)
        .note("keys begin with a slash, as `registry:2` wrote them"),
];
