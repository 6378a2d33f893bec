//! The Redis protocol, versions 2 and 3: requests in, replies out.

pub mod reply;
pub mod request;
