package peers.sofajraft;

import com.alipay.sofa.jraft.Closure;
import com.alipay.sofa.jraft.Iterator;
import com.alipay.sofa.jraft.Status;
import com.alipay.sofa.jraft.core.StateMachineAdapter;
import com.alipay.sofa.jraft.error.RaftException;
import java.nio.ByteBuffer;
import peers.common.Group;
import peers.common.Node;

/** Applies a group's committed batches. All calls come from the group's one state-machine thread. */
final class GroupMachine extends StateMachineAdapter {
    /** New operations follow in groups of this size, so that JRaft's queue hands them on together. */
    private static final int PUMP_EACH = 256;

    private final Group group;
    private volatile boolean leads;

    GroupMachine(Group group) {
        this.group = group;
    }

    boolean leads() {
        return leads;
    }

    @Override
    public void onApply(Iterator iterator) {
        int done = 0;
        while (iterator.hasNext()) {
            ByteBuffer data = iterator.getData();
            // The buffer is shared with threads that send it, so its byte order stays big-endian.
            group.machine.apply(Long.reverseBytes(data.getLong(data.position())));
            Closure closure = iterator.done();
            if (closure != null) {
                closure.run(Status.OK());
                if (++done % PUMP_EACH == 0) {
                    group.proposer.pump();
                }
            }
            iterator.next();
        }
        group.machine.publish();
        group.proposer.pump();
    }

    @Override
    public void onLeaderStart(long term) {
        leads = true;
    }

    @Override
    public void onLeaderStop(Status status) {
        leads = false;
    }

    @Override
    public void onError(RaftException error) {
        Node.die("group " + group.number + " failed", error);
    }
}
