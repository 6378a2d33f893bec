//! Frames and connections.
