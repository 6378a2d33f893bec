//! Reading an envelope where it lies.
//!
//! A frame's checksum says that the envelope arrived as it was sent, not that the sender meant
//! well or runs the same build. So an archive is validated (bytecheck) before a single field of
//! it is looked at; afterwards reading costs nothing and copies nothing. The workspace builds
//! rkyv with `unaligned` and `little_endian`: an envelope may start at any address, and means the
//! same on every machine.

use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;

/// The bytes are not a valid archive of the type asked for.
#[derive(Debug, thiserror::Error)]
#[error("an envelope of {bytes} bytes is not a valid {expected}: {reason}")]
pub struct EnvelopeError {
    /// Length of the envelope in bytes.
    pub bytes: usize,
    /// The type that was expected.
    pub expected: &'static str,
    /// What the validation found.
    pub reason: rancor::Error,
}

/// The archive of a `T` in `bytes`, validated, in place.
///
/// # Errors
///
/// [`EnvelopeError`] for everything that isn't one; no input makes this panic.
pub fn read<T>(bytes: &[u8]) -> Result<&T::Archived, EnvelopeError>
where
    T: rkyv::Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>,
{
    rkyv::access::<T::Archived, rancor::Error>(bytes).map_err(|reason| EnvelopeError {
        bytes: bytes.len(),
        expected: std::any::type_name::<T>(),
        reason,
    })
}
