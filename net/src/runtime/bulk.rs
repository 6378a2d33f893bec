//! The lanes for bulk data: made when they are wanted, throttled, and closed when they are idle.

use std::cell::RefMut;
use std::rc::Rc;
use std::time::Instant;

use super::dialer::Dialer;
use super::net::Net;
use super::notify::Notify;
use super::shared::Connection;
use crate::event::DownReason;
use crate::outbox::Outbox;
use crate::{Endpoint, Lane};

impl Net {
    /// Bulk data is to go to a peer: dials it if no connection for that is there, once, and after a
    /// failure not before the backoff has passed. Whoever still wants it says so again, at every
    /// tick for instance; there is nothing to take back. When the connection is made,
    /// [`Up`](crate::NetEvent::Up) says so, with [`Lane::BulkOut`].
    ///
    /// False if there is no such peer.
    pub fn want_bulk(&self, peer: Endpoint) -> bool {
        let Some(slot) = self.peers.get(&peer).filter(|_| !self.stopped) else { return false };
        let lane = slot.lane(Lane::BulkOut);
        if lane.connection().is_some() {
            return true;
        }
        let mut demand = slot.bulk_dialer.borrow_mut();
        let (wanted, _) = demand.get_or_insert_with(|| {
            let wanted = Rc::new(Notify::default());
            let dialer = Dialer::new(&self.shared, lane, slot.node);
            let task = glommio::spawn_local(dialer.run_on_demand(Rc::clone(&wanted)));
            (wanted, task)
        });
        wanted.notify();
        true
    }

    /// The outbox of bulk data to a peer, as [`outbox`](Self::outbox); it takes frames of kind
    /// [`Snapshot`](crate::FrameKind::Snapshot) alone, for the peer closes the connection over any
    /// other.
    ///
    /// # Panics
    ///
    /// If the same outbox is borrowed already.
    pub fn bulk_outbox(&self, peer: Endpoint) -> Option<RefMut<'_, Outbox>> {
        self.borrow_outbox(peer, Lane::BulkOut)
    }

    /// Time passed: what is throttled may go on, and what is idle is closed, as
    /// [`Idle`](DownReason::Idle). To be called every few milliseconds; without it a throttled lane
    /// stands still.
    pub fn tick(&self, now: Instant) {
        let mut bucket = self.shared.bulk.borrow_mut();
        bucket.refill(now);
        let may_go_on = bucket.available() > 0;
        drop(bucket);
        for slot in self.peers.values() {
            let lane = slot.lane(Lane::BulkOut);
            let Some(connection) = lane.connection() else { continue };
            let held = lane.outbox.borrow().held_bytes();
            if held > 0 && may_go_on {
                connection.wake_writer.notify();
            }
            if self.is_idle(&connection, held, now) {
                self.shared.take_down(lane, &connection, DownReason::Idle);
            }
        }
    }

    fn is_idle(&self, connection: &Connection, held: usize, now: Instant) -> bool {
        if connection.wrote.replace(false) || held > 0 {
            connection.idle_since.set(None);
            return false;
        }
        let since = connection.idle_since.get().unwrap_or(now);
        connection.idle_since.set(Some(since));
        now.saturating_duration_since(since) >= self.shared.config.bulk.idle_after
    }
}
