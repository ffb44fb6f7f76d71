//! Names of hosts in the domain name system. Pure.

/// Longest name of a host, in bytes (RFC 1035, 2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// Longest label of a name, in bytes (RFC 1035, 2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// Characters of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostCharacters {
    /// Letters, digits and hyphens (RFC 1123, 2.1).
    Strict,
    /// Underscores as well, which the networks of Docker and Kubernetes use.
    WithUnderscores,
}

/// Returns true if a text is the name of a host: labels with dots between them. Addresses of IPv4 are such names, too.
#[must_use]
pub fn is_host_name(text: &str, characters: HostCharacters) -> bool {
    text.len() <= MAX_NAME_BYTES && text.split('.').all(|label| is_label(label, characters))
}

/// Returns true if the last label of a name has digits alone: an address of IPv4, or a mistyped one (WHATWG URL, host
/// parsing).
#[must_use]
pub fn ends_in_number(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_label(label: &str, characters: HostCharacters) -> bool {
    let is_inner = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || byte == b'-'
            || byte == b'_' && characters == HostCharacters::WithUnderscores
    };
    (1..=MAX_LABEL_BYTES).contains(&label.len())
        && label.bytes().all(is_inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_with_dots_between_them() {
        let longest = [vec!["a".repeat(MAX_LABEL_BYTES); 3].join("."), "a".repeat(61)].join(".");
        for text in ["a", "registry.lan", "a-b.example", "10.0.0.1", "1a", &longest] {
            assert!(is_host_name(text, HostCharacters::Strict), "{text}");
        }
        let [too_long, long_label] = [format!("{longest}a"), "a".repeat(MAX_LABEL_BYTES + 1)];
        for text in
            ["", ".", "a.", ".a", "a..b", "-a", "a-", "a b", "a:1", "\u{e4}", "a/b", &too_long, &long_label]
        {
            assert!(!is_host_name(text, HostCharacters::WithUnderscores), "{text}");
        }
        let is_name = |characters| is_host_name("my_registry", characters);
        assert!(is_name(HostCharacters::WithUnderscores) && !is_name(HostCharacters::Strict));
    }

    #[test]
    fn a_number_at_the_end_is_no_name() {
        assert!(["10.0.0.256", "a.1", "7"].iter().all(|text| ends_in_number(text)));
        assert!(["a", "1.a", "10.0.0.1a"].iter().all(|text| !ends_in_number(text)));
    }
}
