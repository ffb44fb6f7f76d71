//! Table of keys: each implemented key changes the configuration, and each key has a variable.

use std::collections::BTreeSet;

use super::{
    Loaded, SMALLEST, accepted, environment, load_variables, notifications, retention, tokens, upstreams,
};
use crate::config::{KeyTreatment, Kind, Source, all_keys, load};

/// Each implemented key with a configuration without it, and one in which it has another value.
const CHANGES: &[(&str, &str, &str)] = &[
    ("log.level", "", "log: {level: error}"),
    ("loglevel", "", "loglevel: error"),
    ("log.formatter", "", "log: {formatter: logstash}"),
    ("log.fields", "", "log: {fields: {a: b}}"),
    ("log.accesslog.disabled", "", "log: {accesslog: {disabled: true}}"),
    ("http.addr", "", "http: {addr: ':5001'}"),
    ("http.net", "http: {addr: 'localhost:1'}", "http: {addr: 'localhost:1', net: unix}"),
    ("http.prefix", "", "http: {prefix: /a/}"),
    ("http.draintimeout", "", "http: {draintimeout: 1s}"),
    ("http.headers", "", "http: {headers: {a: [b]}}"),
    (
        "http.tls.certificate",
        "http: {tls: {certificate: /c, key: /k}}",
        "http: {tls: {certificate: /other, key: /k}}",
    ),
    (
        "http.tls.key",
        "http: {tls: {certificate: /c, key: /k}}",
        "http: {tls: {certificate: /c, key: /other}}",
    ),
    (
        "http.tls.clientcas",
        "http: {tls: {certificate: /c, key: /k}}",
        "http: {tls: {certificate: /c, key: /k, clientcas: [/a]}}",
    ),
    (
        "http.tls.clientauth",
        "http: {tls: {certificate: /c, key: /k, clientcas: [/a]}}",
        "http: {tls: {certificate: /c, key: /k, clientcas: [/a], clientauth: request-client-cert}}",
    ),
    (
        "http.tls.minimumtls",
        "http: {tls: {certificate: /c, key: /k}}",
        "http: {tls: {certificate: /c, key: /k, minimumtls: tls1.3}}",
    ),
    (
        "http.tls.ciphersuites",
        "http: {tls: {certificate: /c, key: /k}}",
        "http: {tls: {certificate: /c, key: /k, ciphersuites: [TLS_AES_128_GCM_SHA256]}}",
    ),
    (
        "quinistry.http.proxyprotocol",
        "quinistry: {http: {trustedproxies: [10.0.0.1]}}",
        "quinistry: {http: {trustedproxies: [10.0.0.1], proxyprotocol: true}}",
    ),
    (
        "quinistry.clientcerts.user",
        "http: {tls: {certificate: /c, key: /k, clientcas: [/a]}}",
        "http: {tls: {certificate: /c, key: /k, clientcas: [/a]}}\nquinistry: {clientcerts: {user: [email]}}",
    ),
    ("proxy.remoteurl", "", "proxy: {remoteurl: 'https://a.example'}"),
    (
        "proxy.ttl",
        "proxy: {remoteurl: 'https://a.example'}",
        "proxy: {remoteurl: 'https://a.example', ttl: 0}",
    ),
    (
        "proxy.username",
        "proxy: {remoteurl: 'https://a.example', username: a, password: b}",
        "proxy: {remoteurl: 'https://a.example', username: c, password: b}",
    ),
    (
        "proxy.password",
        "proxy: {remoteurl: 'https://a.example', username: a, password: b}",
        "proxy: {remoteurl: 'https://a.example', username: a, password: c}",
    ),
    (
        "proxy.exec.command",
        "proxy: {remoteurl: 'https://a.example'}",
        "proxy: {remoteurl: 'https://a.example', exec: {command: a}}",
    ),
    (
        "proxy.exec.lifetime",
        "proxy: {remoteurl: 'https://a.example', exec: {command: a}}",
        "proxy: {remoteurl: 'https://a.example', exec: {command: a, lifetime: 1h}}",
    ),
    ("quinistry.scrub.interval", "", "quinistry: {scrub: {interval: 24h}}"),
    ("quinistry.scrub.rate", "", "quinistry: {scrub: {rate: 1MiB}}"),
    ("quinistry.scrub.healfrom", "", "quinistry: {scrub: {healfrom: [/srv/copy]}}"),
    ("http.debug.addr", "", "http: {debug: {addr: ':1'}}"),
    (
        "http.debug.prometheus.enabled",
        "http: {debug: {addr: ':1'}}",
        "http: {debug: {addr: ':1', prometheus: {enabled: true}}}",
    ),
    (
        "http.debug.prometheus.path",
        "http: {debug: {addr: ':1', prometheus: {enabled: true}}}",
        "http: {debug: {addr: ':1', prometheus: {enabled: true, path: /a}}}",
    ),
    ("health.storagedriver.enabled", "", "health: {storagedriver: {enabled: true}}"),
    (
        "health.storagedriver.interval",
        "health: {storagedriver: {enabled: true}}",
        "health: {storagedriver: {enabled: true, interval: 1s}}",
    ),
    (
        "health.storagedriver.threshold",
        "health: {storagedriver: {enabled: true}}",
        "health: {storagedriver: {enabled: true, threshold: 2}}",
    ),
    ("health.file[].file", "health: {file: [{file: /a}]}", "health: {file: [{file: /b}]}"),
    ("health.file[].interval", "health: {file: [{file: /a}]}", "health: {file: [{file: /a, interval: 1s}]}"),
    ("health.file[].threshold", "health: {file: [{file: /a}]}", "health: {file: [{file: /a, threshold: 2}]}"),
    ("health.tcp[].addr", "health: {tcp: [{addr: 'a:1'}]}", "health: {tcp: [{addr: 'a:2'}]}"),
    ("health.tcp[].timeout", "health: {tcp: [{addr: 'a:1'}]}", "health: {tcp: [{addr: 'a:1', timeout: 1s}]}"),
    (
        "health.tcp[].interval",
        "health: {tcp: [{addr: 'a:1'}]}",
        "health: {tcp: [{addr: 'a:1', interval: 1s}]}",
    ),
    (
        "health.tcp[].threshold",
        "health: {tcp: [{addr: 'a:1'}]}",
        "health: {tcp: [{addr: 'a:1', threshold: 2}]}",
    ),
    ("health.http[].uri", "health: {http: [{uri: 'http://a'}]}", "health: {http: [{uri: 'http://b'}]}"),
    (
        "health.http[].headers",
        "health: {http: [{uri: 'http://a'}]}",
        "health: {http: [{uri: 'http://a', headers: {a: [b]}}]}",
    ),
    (
        "health.http[].statuscode",
        "health: {http: [{uri: 'http://a'}]}",
        "health: {http: [{uri: 'http://a', statuscode: 204}]}",
    ),
    (
        "health.http[].timeout",
        "health: {http: [{uri: 'http://a'}]}",
        "health: {http: [{uri: 'http://a', timeout: 1s}]}",
    ),
    (
        "health.http[].interval",
        "health: {http: [{uri: 'http://a'}]}",
        "health: {http: [{uri: 'http://a', interval: 1s}]}",
    ),
    (
        "health.http[].threshold",
        "health: {http: [{uri: 'http://a'}]}",
        "health: {http: [{uri: 'http://a', threshold: 2}]}",
    ),
    ("validation.enabled", "validation: {disabled: true}", "validation: {disabled: true, enabled: true}"),
    ("validation.disabled", "", "validation: {disabled: true}"),
    ("validation.manifests.urls.allow", "", "validation: {manifests: {urls: {allow: [a]}}}"),
    ("validation.manifests.urls.deny", "", "validation: {manifests: {urls: {deny: [a]}}}"),
    ("validation.manifests.indexes.platforms", "", "validation: {manifests: {indexes: {platforms: none}}}"),
    (
        "validation.manifests.indexes.platformlist[].architecture",
        "validation: {manifests: {indexes: {platforms: list, platformlist: [{architecture: a, os: b}]}}}",
        "validation: {manifests: {indexes: {platforms: list, platformlist: [{architecture: c, os: b}]}}}",
    ),
    (
        "validation.manifests.indexes.platformlist[].os",
        "validation: {manifests: {indexes: {platforms: list, platformlist: [{architecture: a, os: b}]}}}",
        "validation: {manifests: {indexes: {platforms: list, platformlist: [{architecture: a, os: c}]}}}",
    ),
    ("policy.repository.classes", "", "policy: {repository: {classes: [plugin]}}"),
    ("catalog.maxentries", "", "catalog: {maxentries: 1}"),
    ("tags.maxtags", "", "tags: {maxtags: 1}"),
    (
        "quinistry.access[].repositories",
        RULE,
        "quinistry: {access: [{repositories: [b], who: [a], can: [pull]}]}",
    ),
    ("quinistry.access[].who", RULE, "quinistry: {access: [{repositories: [a], who: [b], can: [pull]}]}"),
    ("quinistry.access[].can", RULE, "quinistry: {access: [{repositories: [a], who: [a], can: [push]}]}"),
    ("quinistry.gc.writers", "", OURS),
    ("quinistry.gc.interval", OURS, "quinistry: {gc: {writers: ours, interval: 1h}}"),
    ("quinistry.gc.grace", OURS, "quinistry: {gc: {writers: ours, grace: 1h}}"),
    ("quinistry.gc.rate", OURS, "quinistry: {gc: {writers: ours, rate: 1}}"),
    ("quinistry.gc.window", OURS, "quinistry: {gc: {writers: ours, window: '01:00-06:00'}}"),
    ("quinistry.gc.memory", OURS, "quinistry: {gc: {writers: ours, memory: 64MiB}}"),
    ("quinistry.gc.trash", OURS, "quinistry: {gc: {writers: ours, trash: 48h}}"),
    ("quinistry.gc.damaged", OURS, "quinistry: {gc: {writers: ours, damaged: keep-repository}}"),
    ("quinistry.gc.dryrun", OURS, "quinistry: {gc: {writers: ours, dryrun: true}}"),
    ("quinistry.groups", "", "quinistry: {groups: {a: [b]}}"),
    (
        "quinistry.immutability[].repositories",
        IMMUTABLE,
        "quinistry: {immutability: [{repositories: [b], tags: [v]}]}",
    ),
    (
        "quinistry.immutability[].tags",
        IMMUTABLE,
        "quinistry: {immutability: [{repositories: [a], tags: [w]}]}",
    ),
    (
        "quinistry.immutability[].except",
        IMMUTABLE,
        "quinistry: {immutability: [{repositories: [a], tags: [v], except: [w]}]}",
    ),
    ("quinistry.protect[].repositories", PROTECTED, "quinistry: {protect: [{repositories: [b], tags: [v]}]}"),
    ("quinistry.protect[].tags", PROTECTED, "quinistry: {protect: [{repositories: [a], tags: [w]}]}"),
    (
        "quinistry.protect[].except",
        PROTECTED,
        "quinistry: {protect: [{repositories: [a], tags: [v], except: [w]}]}",
    ),
    (
        "quinistry.quotas[].repositories",
        QUOTA,
        "quinistry: {quotas: [{repositories: [b], bytes: 1, tags: 1}]}",
    ),
    ("quinistry.quotas[].bytes", QUOTA, "quinistry: {quotas: [{repositories: [a], bytes: 2, tags: 1}]}"),
    ("quinistry.quotas[].tags", QUOTA, "quinistry: {quotas: [{repositories: [a], bytes: 1, tags: 2}]}"),
    ("quinistry.builtin.anonymous", "", "quinistry: {builtin: {anonymous: false}}"),
    ("quinistry.audit.path", "", "quinistry: {audit: {path: stdout}}"),
    (
        "quinistry.audit.pulls",
        "quinistry: {audit: {path: /a}}",
        "quinistry: {audit: {path: /a, pulls: true}}",
    ),
    ("auth.htpasswd.realm", HTPASSWD, "auth: {htpasswd: {realm: b, path: /a}}"),
    ("auth.htpasswd.path", HTPASSWD, "auth: {htpasswd: {realm: a, path: /b}}"),
    (
        "quinistry.keys.file",
        HTPASSWD,
        "auth: {htpasswd: {realm: a, path: /a}}\nquinistry: {keys: {file: /k}}",
    ),
    (
        "auth.token.realm",
        TOKEN,
        "auth: {token: {realm: 'http://[::1]', service: a, issuer: a, jwks: /jwks.json}}",
    ),
    (
        "auth.token.service",
        TOKEN,
        "auth: {token: {realm: 'https://a', service: b, issuer: a, jwks: /jwks.json}}",
    ),
    (
        "auth.token.issuer",
        TOKEN,
        "auth: {token: {realm: 'https://a', service: a, issuer: b, jwks: /jwks.json}}",
    ),
    ("auth.token.rootcertbundle", TOKEN, TOKEN_WITH_BUNDLE),
    (
        "auth.token.jwks",
        "auth: {token: {realm: 'https://a', service: a, issuer: a, rootcertbundle: /bundle.pem}}",
        TOKEN_WITH_BUNDLE,
    ),
    (
        "auth.token.signingalgorithms",
        TOKEN,
        "auth: {token: {realm: 'https://a', service: a, issuer: a, jwks: /jwks.json, signingalgorithms: [ES256]}}",
    ),
    ("auth.token.autoredirect", TOKEN, TOKEN_OF_OWN_HOST),
    (
        "auth.token.autoredirectpath",
        TOKEN_OF_OWN_HOST,
        "auth: {token: {realm: 'https://a', service: a, issuer: a, jwks: /jwks.json, autoredirect: true, \
         autoredirectpath: /b}}",
    ),
    ("http.host", "", "http: {host: 'https://a'}"),
    ("quinistry.tokens.enabled", "", "quinistry: {tokens: {enabled: true}}"),
    ("quinistry.tokens.lifetime", "", "quinistry: {tokens: {lifetime: 1m}}"),
    ("quinistry.tokens.key", "", "quinistry: {tokens: {key: /token.pem}}"),
    (
        "quinistry.tokens.services",
        "quinistry: {tokens: {key: /token.pem}}",
        "quinistry: {tokens: {key: /token.pem, services: [a]}}",
    ),
    ("quinistry.http.trustedproxies", "", "quinistry: {http: {trustedproxies: ['10.0.0.0/8']}}"),
];

/// Smallest configuration with users.
const HTPASSWD: &str = "auth: {htpasswd: {realm: a, path: /a}}";

/// Smallest configuration with a token server, and others.
const TOKEN: &str = "auth: {token: {realm: 'https://a', service: a, issuer: a, jwks: /jwks.json}}";
const TOKEN_WITH_BUNDLE: &str = "auth: {token: {realm: 'https://a', service: a, issuer: a, jwks: /jwks.json, rootcertbundle: /bundle.pem}}";
const TOKEN_OF_OWN_HOST: &str =
    "auth: {token: {realm: 'https://a', service: a, issuer: a, jwks: /jwks.json, autoredirect: true}}";

/// Section by which garbage is collected.
const OURS: &str = "quinistry: {gc: {writers: ours}}";
const IMMUTABLE: &str = "quinistry: {immutability: [{repositories: [a], tags: [v]}]}";

const PROTECTED: &str = "quinistry: {protect: [{repositories: [a], tags: [v]}]}";

const QUOTA: &str = "quinistry: {quotas: [{repositories: [a], bytes: 1, tags: 1}]}";

/// Configuration of one rule, which the changes below differ from in one key.
const RULE: &str = "quinistry: {access: [{repositories: [a], who: [a], can: [pull]}]}";

/// Each implemented key of `storage`, with the section without it and with another value.
const STORAGE_CHANGES: &[(&str, &str, &str)] = &[
    ("storage.filesystem.rootdirectory", "{filesystem: {}}", "{filesystem: {rootdirectory: /a}}"),
    ("storage.delete.enabled", "{inmemory: {}}", "{inmemory: {}, delete: {enabled: true}}"),
    (
        "storage.maintenance.uploadpurging.enabled",
        "{inmemory: {}}",
        "{inmemory: {}, maintenance: {uploadpurging: {enabled: false}}}",
    ),
    (
        "storage.maintenance.uploadpurging.age",
        "{inmemory: {}}",
        "{inmemory: {}, maintenance: {uploadpurging: {age: 1h}}}",
    ),
    (
        "storage.maintenance.uploadpurging.interval",
        "{inmemory: {}}",
        "{inmemory: {}, maintenance: {uploadpurging: {interval: 1h}}}",
    ),
    (
        "storage.maintenance.uploadpurging.dryrun",
        "{inmemory: {}}",
        "{inmemory: {}, maintenance: {uploadpurging: {dryrun: true}}}",
    ),
    (
        "storage.maintenance.readonly.enabled",
        "{inmemory: {}}",
        "{inmemory: {}, maintenance: {readonly: {enabled: true}}}",
    ),
    ("storage.s3.bucket", "{s3: {bucket: a, region: b}}", "{s3: {bucket: b, region: b}}"),
    ("storage.s3.region", "{s3: {bucket: a, region: b}}", "{s3: {bucket: a, region: c}}"),
    (
        "storage.s3.accesskey",
        "{s3: {bucket: a, region: b, accesskey: x, secretkey: y}}",
        "{s3: {bucket: a, region: b, accesskey: z, secretkey: y}}",
    ),
    (
        "storage.s3.secretkey",
        "{s3: {bucket: a, region: b, accesskey: x, secretkey: y}}",
        "{s3: {bucket: a, region: b, accesskey: x, secretkey: z}}",
    ),
    (
        "storage.s3.sessiontoken",
        "{s3: {bucket: a, region: b, accesskey: x, secretkey: y}}",
        "{s3: {bucket: a, region: b, accesskey: x, secretkey: y, sessiontoken: z}}",
    ),
    (
        "storage.s3.regionendpoint",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, regionendpoint: 'minio:9000'}}",
    ),
    (
        "storage.s3.forcepathstyle",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, forcepathstyle: true}}",
    ),
    ("storage.s3.encrypt", "{s3: {bucket: a, region: b}}", "{s3: {bucket: a, region: b, encrypt: true}}"),
    ("storage.s3.secure", "{s3: {bucket: a, region: b}}", "{s3: {bucket: a, region: b, secure: false}}"),
    (
        "storage.s3.skipverify",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, skipverify: true}}",
    ),
    (
        "storage.s3.chunksize",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, chunksize: 20971520}}",
    ),
    (
        "storage.s3.multipartcopychunksize",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, multipartcopychunksize: 20971520}}",
    ),
    (
        "storage.s3.multipartcopymaxconcurrency",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, multipartcopymaxconcurrency: 7}}",
    ),
    (
        "storage.s3.multipartcopythresholdsize",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, multipartcopythresholdsize: 20971520}}",
    ),
    (
        "storage.s3.rootdirectory",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, rootdirectory: /c}}",
    ),
    (
        "storage.s3.storageclass",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, storageclass: standard_ia}}",
    ),
    ("storage.s3.useragent", "{s3: {bucket: a, region: b}}", "{s3: {bucket: a, region: b, useragent: c}}"),
    (
        "storage.s3.objectacl",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, objectacl: public-read}}",
    ),
    (
        "storage.s3.usedualstack",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, usedualstack: true}}",
    ),
    (
        "storage.s3.accelerate",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, accelerate: true}}",
    ),
    (
        "storage.s3.usefipsendpoint",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, usefipsendpoint: true}}",
    ),
    (
        "storage.s3.redirectendpoint",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b, redirectendpoint: c}}",
    ),
    (
        "storage.s3.keyid",
        "{s3: {bucket: a, region: b, encrypt: true}}",
        "{s3: {bucket: a, region: b, encrypt: true, keyid: c}}",
    ),
    ("storage.gcs.bucket", "{gcs: {bucket: a}}", "{gcs: {bucket: b}}"),
    ("storage.gcs.keyfile", "{gcs: {bucket: a}}", "{gcs: {bucket: a, keyfile: /k.json}}"),
    (
        "storage.gcs.credentials",
        "{gcs: {bucket: a}}",
        "{gcs: {bucket: a, credentials: {client_email: a, private_key: b}}}",
    ),
    ("storage.gcs.rootdirectory", "{gcs: {bucket: a}}", "{gcs: {bucket: a, rootdirectory: c}}"),
    ("storage.gcs.chunksize", "{gcs: {bucket: a}}", "{gcs: {bucket: a, chunksize: 20971520}}"),
    ("storage.gcs.maxconcurrency", "{gcs: {bucket: a}}", "{gcs: {bucket: a, maxconcurrency: 7}}"),
    ("storage.gcs.useragent", "{gcs: {bucket: a}}", "{gcs: {bucket: a, useragent: c}}"),
    (
        "storage.azure.accountname",
        "{azure: {accountname: a, container: b}}",
        "{azure: {accountname: c, container: b}}",
    ),
    (
        "storage.azure.container",
        "{azure: {accountname: a, container: b}}",
        "{azure: {accountname: a, container: c}}",
    ),
    (
        "storage.azure.accountkey",
        "{azure: {accountname: a, container: b}}",
        "{azure: {accountname: a, container: b, accountkey: c}}",
    ),
    (
        "storage.azure.realm",
        "{azure: {accountname: a, container: b}}",
        "{azure: {accountname: a, container: b, realm: c}}",
    ),
    (
        "storage.azure.rootdirectory",
        "{azure: {accountname: a, container: b}}",
        "{azure: {accountname: a, container: b, rootdirectory: c}}",
    ),
    (
        "storage.azure.serviceurl",
        "{azure: {accountname: a, container: b}}",
        "{azure: {accountname: a, container: b, serviceurl: 'http://c/a'}}",
    ),
    (
        "storage.azure.max_retries",
        "{azure: {accountname: a, container: b}}",
        "{azure: {accountname: a, container: b, max_retries: -1}}",
    ),
    (
        "storage.azure.retry_delay",
        "{azure: {accountname: a, container: b}}",
        "{azure: {accountname: a, container: b, retry_delay: 1s}}",
    ),
    (
        "storage.azure.skipverify",
        "{azure: {accountname: a, container: b}}",
        "{azure: {accountname: a, container: b, skipverify: true}}",
    ),
    (
        "storage.azure.credentials.type",
        "{azure: {accountname: a, container: b, accountkey: c}}",
        "{azure: {accountname: a, container: b, accountkey: c, credentials: {type: default_credentials}}}",
    ),
    (
        "storage.azure.credentials.clientid",
        "{azure: {accountname: a, container: b, credentials: {type: client_secret, clientid: c, tenantid: d, secret: e}}}",
        "{azure: {accountname: a, container: b, credentials: {type: client_secret, clientid: x, tenantid: d, secret: e}}}",
    ),
    (
        "storage.azure.credentials.tenantid",
        "{azure: {accountname: a, container: b, credentials: {type: client_secret, clientid: c, tenantid: d, secret: e}}}",
        "{azure: {accountname: a, container: b, credentials: {type: client_secret, clientid: c, tenantid: x, secret: e}}}",
    ),
    (
        "storage.azure.credentials.secret",
        "{azure: {accountname: a, container: b, credentials: {type: client_secret, clientid: c, tenantid: d, secret: e}}}",
        "{azure: {accountname: a, container: b, credentials: {type: client_secret, clientid: c, tenantid: d, secret: x}}}",
    ),
    (
        "storage.redirect.disable",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b}, redirect: {disable: true}}",
    ),
    (
        "quinistry.exclusive",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b}}\nquinistry: {exclusive: true}",
    ),
    (
        "quinistry.coherence",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b}}\nquinistry: {coherence: relaxed}",
    ),
    (
        "quinistry.redirect.expiry",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b}}\nquinistry: {redirect: {expiry: 1h}}",
    ),
    (
        "quinistry.redirect.minsize",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b}}\nquinistry: {redirect: {minsize: 1MiB}}",
    ),
    (
        "quinistry.uploads.memory",
        "{s3: {bucket: a, region: b}}",
        "{s3: {bucket: a, region: b}}\nquinistry: {uploads: {memory: 1GiB}}",
    ),
    (
        "quinistry.azure.legacyroot",
        "{azure: {accountname: a, container: b}}",
        "{azure: {accountname: a, container: b}}\nquinistry: {azure: {legacyroot: true}}",
    ),
];

/// Loads a file beside those that it may name.
fn load_with_files(text: &str) -> Loaded {
    let source = Source { name: "c.yml", bytes: text.as_bytes() };
    load(Some(source), environment(&[]), &tokens::files())
}

#[test]
fn every_implemented_key_changes_the_configuration() {
    let mut seen = BTreeSet::new();
    let texts = CHANGES
        .iter()
        .map(|(key, before, after)| (*key, format!("{SMALLEST}{before}\n"), format!("{SMALLEST}{after}\n")));
    let storage = STORAGE_CHANGES.iter().map(|(key, before, after)| {
        (*key, format!("version: 0.1\nstorage: {before}\n"), format!("version: 0.1\nstorage: {after}\n"))
    });
    let retention = retention::CHANGES.iter().map(|(key, before, after)| {
        let text = |retention| format!("{SMALLEST}quinistry: {{retention: {{{retention}}}}}\n");
        (*key, text(before), text(after))
    });
    let notifications = notifications::CHANGES.iter().map(|(key, before, after)| {
        let text = |more| format!("{SMALLEST}{}\n", notifications::endpoint(more));
        (*key, text(before), text(after))
    });
    let includes_references = "notifications.events.includereferences";
    let text = |word| format!("{SMALLEST}notifications: {{events: {{includereferences: {word}}}}}\n");
    let notifications = notifications.chain([(includes_references, text("false"), text("true"))]);
    for (key, before, after) in retention {
        let [before, after] = [before, after].map(|text| accepted(&load_with_files(&text)).clone());
        assert_ne!(before, after, "{key}");
        let path = all_keys()
            .map(|row| row.path)
            .find(|path| path.strip_prefix("quinistry.retention.") == Some(key));
        assert!(seen.insert(path.expect("a row of the table")), "{key} is given twice");
    }
    for (key, _) in upstreams::CHANGES {
        let own = |path: &&str| path.strip_prefix("quinistry.upstreams[].") == Some(key);
        let path = all_keys().map(|row| row.path).find(own);
        assert!(seen.insert(path.expect("a row of the table")), "{key} is given twice");
    }
    for (key, before, after) in texts.chain(storage).chain(notifications) {
        let [before, after] = [before, after].map(|text| accepted(&load_with_files(&text)).clone());
        assert_ne!(before, after, "{key}");
        assert!(seen.insert(key), "{key} is given twice");
    }
    let is_value = |kind| !matches!(kind, Kind::Section | Kind::Elements | Kind::Version);
    let implemented = all_keys().filter(|key| key.outcome == KeyTreatment::Implement && is_value(key.kind));
    let implemented: BTreeSet<_> = implemented.map(|key| key.path).collect();
    assert_eq!(seen, implemented);
}

#[test]
fn every_key_stands_once_behind_its_section() {
    let mut seen = BTreeSet::new();
    for key in all_keys() {
        if let Some((section, _)) = key.path.rsplit_once('.') {
            assert!(seen.contains(section.trim_end_matches("[]")), "{}", key.path);
        }
        assert!(seen.insert(key.path), "{}", key.path);
        let is_lower =
            key.path.bytes().all(|byte| byte.is_ascii_lowercase() || b"0123456789.[]_".contains(&byte));
        assert!(is_lower, "{}", key.path);
        let within_needs_an_outcome = key.outcome != KeyTreatment::Within || key.path.contains('.');
        assert!(within_needs_an_outcome, "{}", key.path);
    }
    assert!(seen.len() > 200, "{}", seen.len());
}

#[test]
fn every_key_has_a_variable() {
    for key in all_keys().filter(|key| key.kind != Kind::Version) {
        let name = format!("REGISTRY_{}", key.path.replace("[]", "_0").replace('.', "_").to_uppercase());
        // A value of a wrong form is told with the key's path, whatever the key's type is.
        let loaded = load_variables(&[(&name, "[[{a: b}]]")]);
        assert_eq!(loaded.set_by_environment, [name.as_str()]);
    }
}

#[test]
fn each_refusal_says_what_to_do() {
    for key in all_keys() {
        match key.outcome {
            KeyTreatment::Refuse(message, _) => {
                assert!(
                    ["remove", "keep", "use", "copy"].iter().any(|word| message.contains(word)),
                    "{}",
                    key.path
                );
            }
            KeyTreatment::Warn(message) => {
                assert!(!message.is_empty() && !message.ends_with('.'), "{}", key.path);
            }
            _ => {}
        }
    }
}
