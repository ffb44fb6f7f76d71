//! Tokens of an upstream by their scope, until they expire. Requests of one scope share one token and one fetch of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use reqwest::header::HeaderValue;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Most scopes with a token; each repository of the upstream is one.
const MAX_TOKENS: usize = 1000;

/// Tokens of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    slots: Mutex<HashMap<String, Arc<AsyncMutex<Option<Token>>>>>,
}

/// `Authorization` header of a scope.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) authorization: HeaderValue,
    pub(crate) until: Instant,
}

/// Exclusive right to fetch the token of a scope.
pub(crate) type Slot = OwnedMutexGuard<Option<Token>>;

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("until", &self.until).finish_non_exhaustive()
    }
}

// === impl Tokens ===

impl Tokens {
    /// Returns the token of a scope, of a fetch that is under way, too.
    pub(crate) async fn get(&self, scope: &str) -> Option<HeaderValue> {
        let slot = self.slots().get(scope).cloned()?;
        let token = slot.lock().await;
        token.as_ref().filter(|token| token.is_fresh()).map(|token| token.authorization.clone())
    }

    /// Returns the token of a scope, if it is another than the refused one, or the right to fetch one.
    pub(crate) async fn get_or_fetch(
        &self,
        scope: &str,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Slot> {
        let slot = self.slot(scope);
        let token = slot.lock_owned().await;
        match &*token {
            Some(known) if known.is_fresh() && refused != Some(&known.authorization) => {
                Ok(known.authorization.clone())
            }
            _ => Err(token),
        }
    }

    fn slot(&self, scope: &str) -> Arc<AsyncMutex<Option<Token>>> {
        let mut slots = self.slots();
        if slots.len() >= MAX_TOKENS && !slots.contains_key(scope) {
            // Those that no request holds, first the expired ones.
            let is_expired = |slot: &Arc<AsyncMutex<Option<Token>>>| {
                slot.try_lock().is_ok_and(|token| token.as_ref().is_none_or(|token| !token.is_fresh()))
            };
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || !is_expired(slot));
            if slots.len() >= MAX_TOKENS
                && let Some(unused) = slots
                    .iter()
                    .find(|(_, slot)| Arc::strong_count(slot) == 1)
                    .map(|(scope, _)| scope.clone())
            {
                slots.remove(&unused);
            }
        }
        slots.entry(scope.into()).or_default().clone()
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<AsyncMutex<Option<Token>>>>> {
        self.slots.lock().expect("nothing panics while it is held")
    }
}

// === impl Token ===

impl Token {
    fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn token(text: &str, lifetime: Duration) -> Token {
        Token { authorization: text.parse().unwrap(), until: Instant::now() + lifetime }
    }

    #[tokio::test]
    async fn a_token_is_fetched_once_and_again_when_it_is_refused_or_expired() {
        let tokens = Tokens::default();
        assert_eq!(tokens.get("a").await, None);
        let mut slot = tokens.get_or_fetch("a", None).await.unwrap_err();
        let waiting = tokens.get("a");
        *slot = Some(token("1", Duration::from_mins(1)));
        drop(slot);
        assert_eq!(waiting.await.unwrap(), "1");
        let first: HeaderValue = "1".parse().unwrap();
        assert_eq!(tokens.get_or_fetch("a", None).await.unwrap(), first);
        let mut slot = tokens.get_or_fetch("a", Some(&first)).await.unwrap_err();
        *slot = Some(token("2", Duration::ZERO));
        drop(slot);
        assert_eq!(tokens.get("a").await, None);
        assert!(tokens.get_or_fetch("a", Some(&first)).await.is_err());
        assert_eq!(tokens.get("b").await, None);
    }

    #[tokio::test]
    async fn tokens_are_bounded_in_number() {
        let tokens = Tokens::default();
        for n in 0..2 * MAX_TOKENS {
            let mut slot = tokens.get_or_fetch(&n.to_string(), None).await.unwrap_err();
            *slot = Some(token("t", Duration::from_mins(1)));
        }
        assert!(tokens.slots().len() <= MAX_TOKENS);
        assert!(tokens.get(&(2 * MAX_TOKENS - 1).to_string()).await.is_some());
        assert!(!format!("{:?}", token("hunter2", Duration::ZERO)).contains("hunter2"));
    }
}
