package peers.sofajraft;

import com.alipay.sofa.jraft.Closure;
import com.alipay.sofa.jraft.Status;
import com.alipay.sofa.jraft.error.RaftError;
import peers.common.Proposer;

/** An operation in flight. JRaft calls back once: after it was applied, or with an error. */
final class Operation implements Closure {
    /** JRaft's text when a task arrives at a node that doesn't lead; the code alone is also used after an append. */
    private static final String NOT_LEADER = "Is not leader.";

    private final Proposer proposer;
    private final long startNs;

    Operation(Proposer proposer, long startNs) {
        this.proposer = proposer;
        this.startNs = startNs;
    }

    @Override
    public void run(Status status) {
        if (status.isOk()) {
            proposer.acknowledged(startNs);
        } else if (status.getRaftError() == RaftError.EBUSY) {
            proposer.refused();
        } else if (status.getRaftError() == RaftError.ENODESHUTDOWN || NOT_LEADER.equals(status.getErrorMsg())) {
            proposer.failed(status.toString());
        } else {
            proposer.lost(status.toString());
        }
    }
}
