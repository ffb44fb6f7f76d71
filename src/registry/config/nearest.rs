//! Nearest known name of one that is not known.

/// Longest name that is compared: longer ones are no typing errors.
const MAX_CHARACTERS: usize = 64;

/// Returns the candidate that differs least from a name, if it differs by few letters.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_CHARACTERS {
        return None;
    }
    let name = name.to_lowercase();
    let distances = candidates.into_iter().map(|candidate| (distance(&name, candidate), candidate));
    let (distance, candidate) = distances.min()?;
    let most = (candidate.len().max(name.len()) / 3).clamp(1, 4);
    (distance <= most).then_some(candidate)
}

/// Counts the letters to insert, remove, replace or swap (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before = vec![0; other.len() + 1];
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, candidate) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != candidate);
            let mut fewest = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *letter == other[column - 1] && one[row - 1] == *candidate {
                fewest = fewest.min(before[column - 1] + 1);
            }
            current.push(fewest);
        }
        before = std::mem::replace(&mut last, current);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_find_their_key() {
        let keys = ["addr", "net", "prefix", "host", "secret", "clientcas", "certificate"];
        for (typed, expected) in [
            ("adrr", Some("addr")),
            ("Addr", Some("addr")),
            ("clientca", Some("clientcas")),
            ("certifcate", Some("certificate")),
            ("perfix", Some("prefix")),
            ("x", None),
            ("completely-different", None),
        ] {
            assert_eq!(nearest(typed, keys), expected, "{typed}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), keys), None);
    }
}
