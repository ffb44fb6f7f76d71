//! Changes of `quinistry.retention` that each of its keys makes.

/// Keys below `quinistry.retention` with two values of it that differ in the key alone.
pub(super) const CHANGES: &[(&str, &str, &str)] = &[
    ("dryrun", "", "dryrun: false"),
    ("maxdelete", "", "maxdelete: 10%"),
    ("ignorepulls", "", "ignorepulls: [scanner]"),
    ("delay", "policies: [{repositories: [a], deleteuntagged: true}]", DELAY),
    ("policies[].repositories", "policies: [{repositories: [a]}]", "policies: [{repositories: [b]}]"),
    ("policies[].keeptags[].patterns", ENTRY, "policies: [{repositories: [a], keeptags: [{patterns: [b]}]}]"),
    (
        "policies[].keeptags[].pushedwithin",
        ENTRY,
        "policies: [{repositories: [a], keeptags: [{pushedwithin: 1h}]}]",
    ),
    (
        "policies[].keeptags[].pulledwithin",
        ENTRY,
        "policies: [{repositories: [a], keeptags: [{pulledwithin: 1h}]}]",
    ),
    (
        "policies[].keeptags[].mostrecentlypushedcount",
        ENTRY,
        "policies: [{repositories: [a], keeptags: [{mostrecentlypushedcount: 1}]}]",
    ),
    (
        "policies[].keeptags[].mostrecentlypulledcount",
        ENTRY,
        "policies: [{repositories: [a], keeptags: [{mostrecentlypulledcount: 1}]}]",
    ),
    ("policies[].untagged.keepfor", UNTAGGED, "policies: [{repositories: [a], untagged: {keepfor: 1h}}]"),
    (
        "policies[].untagged.pulledwithin",
        UNTAGGED,
        "policies: [{repositories: [a], untagged: {pulledwithin: 1h}}]",
    ),
    (
        "policies[].untagged.mostrecentlypushedcount",
        UNTAGGED,
        "policies: [{repositories: [a], untagged: {mostrecentlypushedcount: 1}}]",
    ),
    (
        "policies[].untagged.mostrecentlypulledcount",
        UNTAGGED,
        "policies: [{repositories: [a], untagged: {mostrecentlypulledcount: 1}}]",
    ),
    (
        "policies[].referrers",
        "policies: [{repositories: [a]}]",
        "policies: [{repositories: [a], referrers: keep}]",
    ),
    (
        "policies[].deletereferrers",
        "policies: [{repositories: [a]}]",
        "policies: [{repositories: [a], deletereferrers: false}]",
    ),
    (
        "policies[].deleteuntagged",
        "policies: [{repositories: [a]}]",
        "policies: [{repositories: [a], deleteuntagged: true}]",
    ),
    (
        "policies[].keepuntagged.pushedwithin",
        KEEP_UNTAGGED,
        "policies: [{repositories: [a], keepuntagged: {pushedwithin: 48h}}]",
    ),
    (
        "policies[].keepuntagged.pulledwithin",
        KEEP_UNTAGGED,
        "policies: [{repositories: [a], keepuntagged: {pulledwithin: 1h}}]",
    ),
    (
        "policies[].keepuntagged.mostrecentlypushedcount",
        KEEP_UNTAGGED,
        "policies: [{repositories: [a], keepuntagged: {mostrecentlypushedcount: 1}}]",
    ),
    (
        "policies[].keepuntagged.mostrecentlypulledcount",
        KEEP_UNTAGGED,
        "policies: [{repositories: [a], keepuntagged: {mostrecentlypulledcount: 1}}]",
    ),
];

const DELAY: &str = "delay: 1h, policies: [{repositories: [a], deleteuntagged: true}]";
const ENTRY: &str = "policies: [{repositories: [a], keeptags: [{}]}]";
const UNTAGGED: &str = "policies: [{repositories: [a], untagged: {}}]";
const KEEP_UNTAGGED: &str = "policies: [{repositories: [a], keepuntagged: {}}]";
