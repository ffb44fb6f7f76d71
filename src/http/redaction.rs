//! API keys in lines of logs. Pure.
//!
//! Clients paste keys where they do not belong: as a user name, a tag, a query or a `User-Agent`. The form of keys is
//! documented for scanners of secrets, so that it is found anywhere in a text, also where a line was cut.

/// Beginning of a key.
const BEGINNING: &[u8] = b"qk_";

/// Hexadecimal digits of the identifier behind it, which is no secret.
const ID_DIGITS: usize = 12;

/// Text in place of a secret.
const MASK: &[u8] = b"***";

/// Masks the secrets of API keys, `qk_ID_SECRET` in whatever case, in the text from `start` on.
pub(crate) fn mask_keys(text: &mut Vec<u8>, start: usize) {
    let mut at = start;
    while let Some(secret) = find_secret(&text[at..]) {
        let begin = at + secret.start;
        text.splice(begin..at + secret.end, MASK.iter().copied());
        at = begin + MASK.len();
    }
}

/// Finds the first secret.
fn find_secret(text: &[u8]) -> Option<std::ops::Range<usize>> {
    let id_end = BEGINNING.len() + ID_DIGITS;
    let is_hex = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
    text.windows(id_end + 2).enumerate().find_map(|(at, window)| {
        let begins = window[..BEGINNING.len()].eq_ignore_ascii_case(BEGINNING)
            && is_hex(&window[BEGINNING.len()..id_end])
            && window[id_end] == b'_'
            && is_hex(&window[id_end + 1..]);
        let secret = at + id_end + 1;
        let length = || text[secret..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        begins.then(|| secret..secret + length())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        mask_keys(&mut bytes, 0);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn keys_are_masked_anywhere_and_in_any_case() {
        let secret = "0123456789abcdef".repeat(5)[..72].to_owned();
        let key = format!("qk_0123456789ab_{secret}");
        assert_eq!(masked(&key), "qk_0123456789ab_***");
        assert_eq!(
            masked(&format!("x{key} /v2/a/manifests/{key}?")),
            "xqk_0123456789ab_*** /v2/a/manifests/qk_0123456789ab_***?"
        );
        assert_eq!(masked(&key.to_uppercase()), "QK_0123456789AB_***");
        assert_eq!(masked(&format!("\"{}\"", &key[..40])), "\"qk_0123456789ab_***\"", "a key that was cut");
    }

    #[test]
    fn other_text_is_kept() {
        for text in
            ["", "qk_", "qk_0123456789ab_", "qk_0123456789ab_x", "qk_0123456789a_00", "qk_0123456789ag_00"]
        {
            assert_eq!(masked(text), text);
        }
        let mut text = b"qk_0123456789ab_00".to_vec();
        mask_keys(&mut text, 1);
        assert_eq!(text, b"qk_0123456789ab_00", "lines before the start are not looked at again");
    }
}
