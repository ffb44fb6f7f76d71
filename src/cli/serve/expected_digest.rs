//! The executable's image in the form that has the expected digest.

use std::fmt;

use crate::oci::Digest;
use crate::quine::{Executable, ExecutableError, LayerForm, Quine};

/// Error of an executable whose image is not the expected one.
#[derive(Debug)]
pub(super) struct DigestMismatch {
    expected: Digest,
    found: Vec<(LayerForm, Digest)>,
}

/// Computes the image in the wanted form; without one, in the form that has the expected digest.
pub(super) fn choose(
    executable: &Executable,
    form: Option<LayerForm>,
    expected: Option<&Digest>,
) -> Result<Result<Quine, DigestMismatch>, ExecutableError> {
    let Some(expected) = expected else { return Quine::new(executable, form.unwrap_or_default()).map(Ok) };
    let forms = match form {
        Some(form) => vec![form],
        None => LayerForm::ALL.to_vec(),
    };
    let mut found = Vec::new();
    for form in forms {
        let quine = Quine::new(executable, form)?;
        if quine.digest() == expected {
            return Ok(Ok(quine));
        }
        found.push((form, quine.digest().clone()));
    }
    Ok(Err(DigestMismatch { expected: expected.clone(), found }))
}

impl fmt::Display for DigestMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this executable's image is not the expected one: expected {}, computed", self.expected)?;
        for (index, (form, digest)) in self.found.iter().enumerate() {
            write!(f, "{} {digest} ({} layer)", if index == 0 { "" } else { " and" }, form.as_str())?;
        }
        Ok(())
    }
}
