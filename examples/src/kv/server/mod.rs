//! Connections, routing, forwarding, administration.
