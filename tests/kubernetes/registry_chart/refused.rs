//! Values that make no sense, and near ones that do.

use super::S3;
use crate::chart::helm::{Helm, REGISTRY, template_of};

/// Values that the schema refuses, each with a part of helm's message.
const BY_SCHEMA: &[(&str, &str)] = &[
    // Typing errors, at every depth.
    ("replica=1", "additional properties 'replica' not allowed"),
    ("storage.s4.bucket=x", "additional properties 's4' not allowed"),
    ("storage.s3.buckett=x", "additional properties 'buckett' not allowed"),
    ("storage.gcs.region=x", "additional properties 'region' not allowed"),
    ("storage.azure.bucket=x", "additional properties 'bucket' not allowed"),
    ("auth.htpasswd.secret=x", "additional properties 'secret' not allowed"),
    ("ingress.host=x", "additional properties 'host' not allowed"),
    ("httpRoute.parentRefs[0].nme=x", "additional properties 'nme' not allowed"),
    ("networkPolicy.from[0].podselector.a=b", "additional properties 'podselector' not allowed"),
    // Secrets do not belong into values.
    ("storage.s3.accesskey=x", "additional properties 'accesskey' not allowed"),
    ("storage.s3.secretkey=x", "additional properties 'secretkey' not allowed"),
    ("storage.azure.accountkey=x", "additional properties 'accountkey' not allowed"),
    ("storage.azure.credentials.secret=x", "additional properties 'secret' not allowed"),
    ("storage.gcs.credentials.private_key=x", "additional properties 'credentials' not allowed"),
    // Wrong types.
    ("replicas=many", "/replicas"),
    ("storage=s3", "/storage"),
    ("config=x", "/config"),
    ("config.storage=filesystem", "/config/storage"),
    ("config.http=x", "/config/http"),
    ("storage.s3.forcepathstyle=perhaps", "/storage/s3/forcepathstyle"),
    // What would be refused later, or worse, not at all.
    ("replicas=-1", "minimum"),
    ("storage.type=swift", "/storage/type"),
    ("storage.type=s3", "missing property 'bucket'"),
    ("storage.type=gcs", "missing property 'bucket'"),
    ("storage.type=azure,storage.azure.accountname=a", "missing property 'container'"),
    ("storage.s3.chunksize=1048576", "/storage/s3/chunksize"),
    ("storage.gcs.chunksize=262145", "/storage/gcs/chunksize"),
    ("storage.filesystem.accessModes={Sometimes}", "/storage/filesystem/accessModes/0"),
    ("storage.filesystem.size=lots", "/storage/filesystem/size"),
    ("shutdown.drainSeconds=0", "/shutdown/drainSeconds"),
    ("shutdown.delaySeconds=-1", "/shutdown/delaySeconds"),
    ("service.port=70000", "/service/port"),
    ("service.type=ExternalName", "/service/type"),
    ("service.loadBalancerSourceRanges={192.0.2.1}", "/service/loadBalancerSourceRanges/0"),
    ("ingress.enabled=true", "/ingress/hosts"),
    ("httpRoute.enabled=true", "/httpRoute/parentRefs"),
    ("ingress.hosts={https://registry.example.com}", "/ingress/hosts/0"),
    ("httpRoute.timeouts.request=forever", "/httpRoute/timeouts/request"),
    ("extraFiles[0].mountPath=/keys", "/extraFiles/0"),
    ("extraFiles[0].mountPath=keys,extraFiles[0].secret=keys", "/extraFiles/0/mountPath"),
    ("extraFiles[0].mountPath=/k,extraFiles[0].secret=a,extraFiles[0].configMap=b", "/extraFiles/0"),
    ("test.registry=https://registry.example.com", "/test/registry"),
    ("test.repository=Team/x", "/test/repository"),
    ("log.level=loud", "/log/level"),
];

/// Values that the templates refuse, each with a part of helm's message.
const BY_TEMPLATES: &[(&str, &str)] = &[
    ("replicas=2", "a volume has one writer; use a bucket (storage.type), or set readOnly"),
    ("replicas=2,readOnly=true", "storage.filesystem.accessModes with ReadWriteMany or ReadOnlyMany"),
    ("readOnly=true,storage.filesystem.ephemeral=true", "an emptyDir begins empty"),
    (
        "replicas=2,storage.type=s3,storage.s3.bucket=b,auth.htpasswd.existingSecret=users",
        "httpSecret.existingSecret: several replicas with users need one secret",
    ),
    (
        "replicas=2,storage.type=s3,storage.s3.bucket=b,config.auth.token.realm=https://auth.example.com",
        "httpSecret.existingSecret: several replicas with users need one secret",
    ),
    (
        "auth.htpasswd.existingSecret=users,config.auth.token.realm=x",
        "config.auth: there is one kind of users",
    ),
    (
        "storage.type=azure,storage.azure.accountname=a,storage.azure.container=c,storage.azure.credentials.type=shared_key",
        "storage.credentials.existingSecret: credentials of type shared_key are in a Secret",
    ),
    (
        "storage.type=azure,storage.azure.accountname=a,storage.azure.container=c,storage.credentials.existingSecret=s",
        "storage.azure.credentials.type: shared_key or client_secret",
    ),
    ("config.version=0.2", "config.version: "),
    ("config.http.addr=:8080", "config.http.addr: the chart sets it; use service.port"),
    ("config.http.net=unix", "config.http.net: "),
    ("config.http.debug.addr=:9000", "config.http.debug: "),
    ("config.http.draintimeout=5s", "config.http.draintimeout: use shutdown.drainSeconds"),
    ("config.http.secret=secret", "config.http.secret: it would be readable in the ConfigMap"),
    ("config.http.tls.certificate=/x", "config.http.tls.certificate: use tls.existingSecret"),
    ("config.http.tls.key=/x", "config.http.tls.key: use tls.existingSecret"),
    ("config.log.level=debug", "config.log.level: use log.level"),
    ("config.log.formatter=json", "config.log.formatter: use log.format"),
    ("config.log.accesslog.disabled=true", "config.log.accesslog: use log.access"),
    ("config.storage.delete.enabled=true", "config.storage.delete.enabled: use storage.deletes"),
    ("config.storage.filesystem.rootdirectory=/x", "config.storage.filesystem: "),
    ("config.storage.inmemory=", "config.storage.inmemory: use storage.filesystem.ephemeral"),
    ("config.storage.s3.bucket=x", "config.storage.s3: use storage.s3"),
    ("config.storage.gcs.bucket=x", "config.storage.gcs: use storage.gcs"),
    ("config.storage.azure.container=x", "config.storage.azure: use storage.azure"),
];

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    let Some(helm) = Helm::find() else { return };
    for (set, message) in BY_SCHEMA {
        let said = helm.refusal(&template_of(REGISTRY, &["--set", set]));
        assert!(said.contains("values don't meet the specifications of the schema"), "{set}: {said}");
        assert!(said.contains(message), "{set}: {said}");
    }
}

#[test]
fn what_contradicts_itself_is_refused_with_what_to_do() {
    let Some(helm) = Helm::find() else { return };
    for (set, message) in BY_TEMPLATES {
        let said = helm.refusal(&template_of(REGISTRY, &["--set", set]));
        assert!(said.contains(message), "{set}: {said}");
    }
}

#[test]
fn what_makes_sense_is_taken() {
    let Some(helm) = Helm::find() else { return };
    for set in [
        "replicas=0",
        &format!("{S3},replicas=9"),
        // One replica signs with a secret of its own.
        &format!("{S3},auth.htpasswd.existingSecret=users"),
        &format!("{S3},replicas=2,auth.htpasswd.existingSecret=users,httpSecret.existingSecret=signing"),
        // No users, in both spellings.
        &format!("{S3},replicas=2,config.auth=none"),
        &format!("{S3},replicas=2,config.auth.none.x=y"),
        "readOnly=true,replicas=2,storage.filesystem.accessModes={ReadWriteMany}",
        "storage.filesystem.existingClaim=shelf,readOnly=true,replicas=2",
        "config.http.tls.minimumtls=tls1.3,tls.existingSecret=certificate",
        "config.http.host=https://registry.example.com",
        "storage.type=azure,storage.azure.accountname=a,storage.azure.container=c",
        // How OpenShift is told to choose users itself.
        "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null,podSecurityContext.fsGroup=null",
        "nodeSelector=null",
        "shutdown.delaySeconds=0",
        "global.team=books",
        "enabled=true",
    ] {
        helm.text(&template_of(REGISTRY, &["--set", set]));
    }
}
