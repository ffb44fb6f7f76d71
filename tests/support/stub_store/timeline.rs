//! Order of requests: which of them were under way at the same time.

use std::sync::{Mutex, PoisonError};

use quinistry_bucket::testing::SentRequest;

/// A request with the numbers of its begin and its end in one order of all begins and ends.
#[derive(Clone, Debug)]
pub struct Span {
    pub request: SentRequest,
    begin: usize,
    /// `None` while the request is not answered.
    end: Option<usize>,
}

/// Spans of the requests since the last call of [`Timeline::take`].
#[derive(Debug, Default)]
pub(super) struct Timeline(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Number of the next begin or end.
    next: usize,
    /// Requests that are not answered.
    open: usize,
    spans: Vec<Span>,
}

impl Timeline {
    /// Notes the begin of a request, and returns its number.
    pub(super) fn begin(&self, request: SentRequest) -> usize {
        let mut state = self.lock();
        let begin = state.number();
        state.open += 1;
        state.spans.push(Span { request, begin, end: None });
        begin
    }

    /// Notes the end of the request whose begin has a number.
    pub(super) fn end(&self, begin: usize) {
        let mut state = self.lock();
        let end = state.number();
        state.open -= 1;
        // Spans of earlier operations may have been taken.
        if let Some(span) = state.spans.iter_mut().find(|span| span.begin == begin) {
            span.end = Some(end);
        }
    }

    /// Returns the number of the last begin or end, unless a request is not answered.
    pub(super) fn quiet_since(&self) -> Option<usize> {
        let state = self.lock();
        (state.open == 0).then_some(state.next)
    }

    pub(super) fn take(&self) -> Vec<Span> {
        std::mem::take(&mut self.lock().spans)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> usize {
        self.next += 1;
        self.next
    }
}

/// Returns the greatest number of requests of which none was under way together with another: those for which a
/// client waited one after the other.
pub fn depth<'a>(spans: impl IntoIterator<Item = &'a Span>) -> usize {
    let mut spans: Vec<(usize, usize)> =
        spans.into_iter().map(|span| (span.begin, span.end.unwrap_or(usize::MAX))).collect();
    // The request that ends first leaves the most room for others.
    spans.sort_by_key(|&(_, end)| end);
    let (mut count, mut last) = (0, 0);
    for (begin, end) in spans {
        if begin > last {
            (count, last) = (count + 1, end);
        }
    }
    count
}
