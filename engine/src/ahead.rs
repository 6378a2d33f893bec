//! How far ahead of its work a turn has the memory of groups fetched; see
//! [`prefetch`](ringleader_wal::prefetch).

/// Groups ahead whose own memory is fetched.
pub(crate) const FAR: usize = 8;

/// Groups ahead for which what that memory points to is fetched.
pub(crate) const NEAR: usize = 4;
