//! Examples of every subcommand: the help, the manual pages and a test that parses them read this table.

/// Path of each subcommand with its examples.
pub(super) const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "serve",
        &[
            "quinistry serve",
            "quinistry serve --listen localhost:8080 --storage /srv/registry",
            "quinistry serve --bundle shop.tar",
            "quinistry serve --listen localhost:5000 --peers http://10.96.0.7:8090 --names names.json",
            "quinistry serve --storage /data --push-listen localhost:8090",
            "quinistry serve /etc/docker/registry/config.yml",
        ],
    ),
    (
        "config check",
        &["quinistry config check config.yml", "quinistry config check config.yml --strict -o json"],
    ),
    (
        "tls init",
        &[
            "quinistry tls init /etc/quinistry --host registry.lan",
            "quinistry tls init /etc/quinistry --host registry.lan --host 10.0.0.5 --port 5000",
        ],
    ),
    (
        "mirrors",
        &[
            "quinistry mirrors containerd registry.lan:5000 --ca /etc/quinistry/ca.crt --write /",
            "quinistry mirrors podman http://10.0.0.5:5000 docker.io quay.io",
        ],
    ),
    (
        "policy",
        &[
            "quinistry policy | kubectl apply --server-side -f -",
            "quinistry policy registry.lan:5000 --label example.com/images=registry.lan",
        ],
    ),
    ("config keys", &["quinistry config keys", "quinistry config keys -o json"]),
    (
        "user add",
        &[
            "quinistry user add /etc/registry/htpasswd alice",
            "quinistry user add htpasswd ci --password-stdin",
        ],
    ),
    (
        "user remove",
        &["quinistry user remove /etc/registry/htpasswd alice", "quinistry user remove htpasswd ci"],
    ),
    ("user list", &["quinistry user list /etc/registry/htpasswd", "quinistry user list htpasswd -o json"]),
    (
        "key add",
        &[
            "quinistry key add config.yml --for ci --can pull --expires 90d",
            "quinistry key add config.yml --for ci --repositories 'team/**' --can push --note build",
        ],
    ),
    (
        "key remove",
        &[
            "quinistry key remove config.yml 0123456789ab",
            "quinistry key remove /etc/registry.yml 0123456789ab",
        ],
    ),
    ("key list", &["quinistry key list config.yml", "quinistry key list config.yml -o json"]),
    (
        "access check",
        &[
            "quinistry access check config.yml alice team/app",
            "quinistry access check config.yml anonymous public/app --can pull -o json",
        ],
    ),
    (
        "upstream status",
        &[
            "quinistry upstream status --config config.yml",
            "quinistry upstream status --config config.yml --storage s3://images/team -o json",
        ],
    ),
    (
        "upstream prefetch",
        &[
            "quinistry upstream prefetch --config config.yml",
            "quinistry upstream prefetch --config config.yml --storage /srv/registry",
        ],
    ),
    (
        "upstream evict",
        &[
            "quinistry upstream evict --config config.yml docker.io/library/debian",
            "quinistry upstream evict --config config.yml --unused-for 30d",
        ],
    ),
    (
        "retention plan",
        &[
            "quinistry retention plan /srv/registry --config config.yml",
            "quinistry retention plan s3://images/team --config config.yml -o json",
        ],
    ),
    (
        "retention run",
        &[
            "quinistry retention run /srv/registry --config config.yml",
            "quinistry retention run --config config.yml --now --max-delete 60%",
        ],
    ),
    (
        "prepare-storage",
        &[
            "quinistry prepare-storage --storage /data --owner 65532:65532",
            "quinistry prepare-storage --storage /var/lib/quinistry --owner 1000:1000",
        ],
    ),
    (
        "storage probe",
        &[
            "quinistry storage probe 's3://bucket/registry?region=eu-west-1'",
            "quinistry storage probe 's3://bucket?endpoint=http://localhost:9000&pathstyle=true' -o json",
        ],
    ),
    (
        "gc",
        &[
            "quinistry gc /srv/registry --dry-run",
            "quinistry gc /srv/registry --delete-untagged -o json",
            "quinistry gc 's3://bucket/registry?region=eu-west-1' --writers ours",
        ],
    ),
    (
        "gc status",
        &["quinistry gc status /srv/registry", "quinistry gc status 's3://bucket?region=eu-west-1' -o json"],
    ),
    (
        "fsck",
        &[
            "quinistry fsck /srv/registry --hash",
            "quinistry fsck 's3://bucket/registry?region=eu-west-1' --repair -o json",
        ],
    ),
    (
        "migrate",
        &[
            "quinistry migrate /var/lib/registry 's3://bucket/registry?region=eu-west-1' --follow",
            "quinistry migrate /var/lib/registry 's3://bucket/registry?region=eu-west-1' --final",
            "quinistry migrate gs://bucket /srv/registry --dry-run -o json",
        ],
    ),
    (
        "garbage-collect",
        &[
            "quinistry garbage-collect /etc/docker/registry/config.yml --dry-run",
            "quinistry garbage-collect /etc/docker/registry/config.yml --delete-untagged",
        ],
    ),
    ("bootstrap", &["quinistry bootstrap", "quinistry bootstrap --generations 5 --base-port 6000 --keep"]),
    ("image digest", &["quinistry image digest", "quinistry image digest --layer gzip"]),
    ("image config", &["quinistry image config", "quinistry image config --bootstrap"]),
    ("image manifest", &["quinistry image manifest", "quinistry image manifest | sha256sum"]),
    (
        "image save",
        &[
            "quinistry image save - | docker load",
            "quinistry image save --bootstrap --name registry.example.com/quinistry:0.1.0 q.tar",
        ],
    ),
    (
        "pull",
        &[
            "quinistry pull localhost:8080/quinistry:latest q.tar",
            "quinistry pull registry.example.com/debian:12 debian --format oci-layout --platform linux/arm64",
        ],
    ),
    (
        "push",
        &[
            "quinistry push debian.tar registry.example.com/debian:12",
            "quinistry push --self registry.example.com/quinistry:0.1.0",
        ],
    ),
    (
        "copy",
        &[
            "quinistry copy registry.example.com/debian:12 localhost:8080/debian:12",
            "quinistry copy --all registry.example.com/app:1 localhost:8080/app:1 -o json",
            "quinistry copy registry.example.com/app:1 localhost:8080/app:1 --from-ca ca.pem",
        ],
    ),
    (
        "bundle",
        &[
            "quinistry bundle shop.tar ghcr.io/acme/shop:1.4.0 docker.io/library/postgres:17.2",
            "quinistry bundle shop.tar --from rendered.yaml --platform linux/amd64 --platform linux/arm64",
            "quinistry bundle shop.tar --from rendered.yaml ghcr.io/acme/tools:2 -o json",
            "quinistry bundle shop.tar --chart oci://ghcr.io/acme/charts/shop --version 1.4.0 --values site.yaml",
        ],
    ),
    (
        "load",
        &[
            "quinistry load shop.tar registry.example.com:5000",
            "quinistry load shop.tar registry.example.com:5000 --rewrite rendered.yaml | kubectl apply -f -",
            "quinistry load shop.tar 127.0.0.1:8090 --as localhost:5000 --rewrite rendered.yaml > rewritten.yaml",
            "quinistry load shop.tar --bundle --rewrite rendered.yaml | kubectl apply -f -",
            "quinistry load shop.tar --context site-7 --namespace pantry",
        ],
    ),
    (
        "delete",
        &[
            "quinistry delete localhost:8080/debian:12",
            "quinistry delete localhost:8080/debian@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ],
    ),
    (
        "verify",
        &[
            "quinistry verify localhost:8080/quinistry",
            "quinistry verify registry.example.com/debian:12 --platform linux/amd64",
        ],
    ),
    (
        "inspect",
        &["quinistry inspect localhost:8080/debian:12", "quinistry inspect localhost:8080/debian:12 -o json"],
    ),
    (
        "referrers",
        &[
            "quinistry referrers localhost:8080/app:1",
            "quinistry referrers localhost:8080/app:1 --artifact-type application/spdx+json",
        ],
    ),
    ("tags", &["quinistry tags localhost:8080/debian", "quinistry tags localhost:8080/debian -o json"]),
    ("list", &["quinistry list localhost:8080", "quinistry list registry.example.com --ca ca.pem"]),
    (
        "login",
        &[
            "quinistry login registry.example.com",
            "cat token | quinistry login registry.example.com -u robot --password-stdin",
        ],
    ),
    ("logout", &["quinistry logout registry.example.com", "quinistry logout localhost:5000"]),
    ("check", &["quinistry check", "quinistry check -n edge --context site-7"]),
    (
        "up",
        &[
            "quinistry up --wait",
            "quinistry up --with shop.tar --wait",
            "quinistry up -n edge --generations 2 --dry-run -o yaml > edge.yaml",
        ],
    ),
    ("status", &["quinistry status", "quinistry status -n edge -w"]),
    ("down", &["quinistry down", "quinistry down -n edge --yes"]),
    ("operator", &["quinistry operator", "quinistry operator -n edge --leader-elect"]),
    ("crd", &["quinistry crd | kubectl apply --server-side -f -", "quinistry crd > definitions.yaml"]),
    (
        "probe",
        &[
            "quinistry probe http://localhost:8080/v2/",
            "quinistry probe http://localhost:8081/readyz --wait 30",
        ],
    ),
    ("version", &["quinistry version", "quinistry version -o json"]),
    (
        "completions",
        &[
            "quinistry completions bash > /etc/bash_completion.d/quinistry",
            "quinistry completions zsh > /usr/share/zsh/site-functions/_quinistry",
        ],
    ),
    ("man", &["quinistry man /usr/local/share/man/man1", "quinistry man man1"]),
];
