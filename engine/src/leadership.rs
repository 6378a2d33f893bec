//! Moving leaderships.

use ringleader_wal::{GroupId, NodeId};

use crate::error::TransferError;
use crate::handle::Handle;
use crate::inbox::Request;
use crate::shard::Transferred;

impl Handle {
    /// Hands the leadership of a group that this node leads to `to`, or to the voter whose log is
    /// the most complete (thesis, section 3.10). Resolves when that one is known to lead.
    ///
    /// Proposals are refused meanwhile, with
    /// [`ProposeError::Transferring`](crate::ProposeError::Transferring); those accepted before are
    /// committed first, so none becomes unknown. Where the target keeps up and the disks are well,
    /// all of it takes two round trips and three durable writes. A target that can't get there
    /// within an election timeout does not get the office, and this node leads on. Lease reads end
    /// with the first message to the target, for the rest of the term.
    ///
    /// Dropping the future does not take the request back.
    ///
    /// # Errors
    /// Each variant of [`TransferError`] says whether the leadership may have moved.
    pub async fn transfer_leadership(
        &self,
        group: GroupId,
        to: Option<NodeId>,
    ) -> Result<Transferred, TransferError> {
        let inbox = self.inbox(group);
        let (reply, answer) = flume::bounded(1);
        let sent = inbox.send(Request::Transfer { group, to, reply }).await;
        sent.map_err(|_| TransferError::Stopped)?;
        answer.recv_async().await.unwrap_or(Err(TransferError::Stopped))
    }
}
