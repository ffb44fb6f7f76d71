//! Publication of a fetched blob, as the clients see it that want the blob stored. Pure.

use quinistry_oci::RepositoryName;

use crate::error::FetchError;

/// Repositories that have a blob by its fetch, and those that do not get it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publication {
    results: Vec<(RepositoryName, Result<(), FetchError>)>,
    /// Reason for which no other repository gets the blob; `None` while some may.
    end: Option<FetchError>,
}

impl Publication {
    /// Notes the result of one repository.
    pub(crate) fn note(&mut self, repository: RepositoryName, result: Result<(), FetchError>) {
        self.results.push((repository, result));
    }

    /// Notes that no other repository gets the blob. Returns false if that is known.
    pub(crate) fn end(&mut self, error: FetchError) -> bool {
        let is_open = self.end.is_none();
        if is_open {
            self.end = Some(error);
        }
        is_open
    }

    /// Returns the result of a repository, once it is known.
    pub(crate) fn result_of(&self, repository: &RepositoryName) -> Option<Result<(), FetchError>> {
        let known = self.results.iter().find(|(name, _)| name == repository);
        known.map(|(_, result)| result.clone()).or_else(|| self.end.clone().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_its_own_result_or_else_that_of_the_end() {
        let [first, second]: [RepositoryName; 2] = ["cache/a", "cache/b"].map(|name| name.parse().unwrap());
        let mut publication = Publication::default();
        assert!(publication.result_of(&first).is_none());
        publication.note(first.clone(), Ok(()));
        assert!(matches!(publication.result_of(&first), Some(Ok(()))));
        assert!(publication.result_of(&second).is_none());
        assert!(publication.end(FetchError::Unstored));
        assert!(!publication.end(FetchError::Interrupted), "the first reason holds");
        assert!(matches!(publication.result_of(&first), Some(Ok(()))));
        assert!(matches!(publication.result_of(&second), Some(Err(FetchError::Unstored))));
    }
}
