//! One request to a source, and the reading of its answer, each with a deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, timeout};

use crate::error::FetchError;
use crate::fetches::FetchOptions;
use crate::pace::Pace;
use crate::source::{Answer, Body, Source, SourceError, Turn, Wanted};
use crate::transfer::{Event, Fault};

/// Answer that is being read.
pub(crate) struct Reading {
    body: Body,
    pace: Pace,
    _turn: Turn,
}

/// Pieces of an answer.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) end: BatchEnd,
}

/// State of an answer after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchEnd {
    /// More may follow.
    Open,
    /// The answer is complete.
    Ended,
    /// The answer was cut off, or is silent or too slow for too long.
    Broken,
}

/// Longest pause between two requests to a source that is away.
const MAX_AWAY_PAUSE: Duration = Duration::from_secs(5);

/// Asks a source, after a pause unless it is the first request of a transfer. A source that a transfer has
/// broken off at is asked again for as long as the options say.
pub(crate) async fn ask(
    source: &dyn Source,
    wanted: Wanted,
    is_first: bool,
    options: &FetchOptions,
) -> Result<(Answer, Reading), SourceError> {
    if is_first {
        return ask_once(source, wanted, options).await;
    }
    let (begun, mut pause) = (Instant::now(), options.resume_pause);
    loop {
        if pause > Duration::ZERO {
            tokio::time::sleep(pause).await;
        }
        let asked = ask_once(source, wanted.clone(), options).await;
        if asked.is_ok() || begun.elapsed() >= options.away_patience {
            return asked;
        }
        pause = (pause * 2).min(MAX_AWAY_PAUSE);
    }
}

/// Returns the event of a request that was not answered.
pub(crate) fn unanswered(is_first: bool, options: &FetchOptions) -> Event<'static> {
    if is_first || options.away_patience.is_zero() { Event::Broken } else { Event::GivenUp }
}

async fn ask_once(
    source: &dyn Source,
    wanted: Wanted,
    options: &FetchOptions,
) -> Result<(Answer, Reading), SourceError> {
    let turn = source.turn().await;
    let answered = timeout(options.answer_timeout, source.open(wanted)).await;
    let (answer, body) = answered.unwrap_or(Err(SourceError::Silent))?;
    Ok((answer, Reading { body, pace: Pace::default(), _turn: turn }))
}

/// Reads the next piece of an answer, and those behind it that are there, until they have `enough_bytes`. Dropping the
/// future loses no bytes.
pub(crate) async fn read(reading: &mut Reading, enough_bytes: usize, options: &FetchOptions) -> Batch {
    let Reading { body, pace, .. } = reading;
    let mut next = loop {
        let begun = Instant::now();
        if let Ok(next) = timeout(pace.left_of(options.silence_timeout), body.next()).await {
            pace.waited(begun.elapsed());
            break next;
        }
        if !pace.next_window() {
            return Batch { pieces: Vec::new(), end: BatchEnd::Broken };
        }
    };
    let (mut pieces, mut length) = (Vec::new(), 0);
    loop {
        match next {
            None => return Batch { pieces, end: BatchEnd::Ended },
            // The transfer is resumed, or ends with an error of its own.
            Some(Err(_)) => return Batch { pieces, end: BatchEnd::Broken },
            Some(Ok(piece)) => {
                length += piece.len();
                pace.received(piece.len() as u64);
                pieces.push(piece);
            }
        }
        if length >= enough_bytes {
            return Batch { pieces, end: BatchEnd::Open };
        }
        next = match body.next().now_or_never() {
            Some(next) => next,
            None => return Batch { pieces, end: BatchEnd::Open },
        };
    }
}

/// Returns the error of a transfer's fault, with the reason for which the source has not answered, if any.
pub(crate) fn error_of(fault: Fault, source: &Arc<str>, reason: Option<SourceError>) -> FetchError {
    let name = source.clone();
    match fault {
        Fault::Lie(lie) => FetchError::Lie { name, lie },
        Fault::LengthUnknown => FetchError::LengthUnknown { name },
        Fault::Broken => FetchError::Broken { name },
        Fault::Unanswered => {
            FetchError::Source { name, reason: Arc::new(reason.unwrap_or(SourceError::Silent)) }
        }
    }
}
