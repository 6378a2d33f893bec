package peers.aeron;

import io.aeron.ExclusivePublication;
import io.aeron.Image;
import io.aeron.cluster.client.AeronCluster;
import io.aeron.cluster.codecs.CloseReason;
import io.aeron.cluster.service.ClientSession;
import io.aeron.cluster.service.Cluster;
import io.aeron.cluster.service.ClusteredService;
import io.aeron.logbuffer.Header;
import java.nio.ByteOrder;
import java.util.concurrent.TimeUnit;
import org.agrona.DirectBuffer;
import peers.common.Group;

/**
 * The state machine, and on the leader the load as well: the log's messages are applied, and new ones
 * offered between two looks at the log, by the service's one thread.
 */
final class LoadedService implements ClusteredService {
    private final Group group;
    private final Ingress ingress;
    private Cluster cluster;
    private volatile boolean knowsLeader;
    private boolean unpublished;

    LoadedService(Group group, Ingress ingress) {
        this.group = group;
        this.ingress = ingress;
    }

    boolean knowsLeader() {
        return knowsLeader;
    }

    @Override
    public void onStart(Cluster cluster, Image snapshotImage) {
        this.cluster = cluster;
    }

    @Override
    public void onSessionMessage(
            ClientSession session, long timestamp, DirectBuffer buffer, int offset, int length, Header header) {
        long number = buffer.getLong(offset, ByteOrder.LITTLE_ENDIAN);
        group.machine.apply(number);
        unpublished = true;
        ingress.applied(session.id(), number, group.proposer);
    }

    @Override
    public int doBackgroundWork(long nowNs) {
        if (unpublished) {
            group.machine.publish();
            unpublished = false;
        }
        if (cluster.role() != Cluster.Role.LEADER) {
            return 0;
        }
        ingress.poll(nowNs);
        return group.proposer.pump();
    }

    @Override
    public void onRoleChange(Cluster.Role newRole) {
        if (newRole != Cluster.Role.LEADER) {
            ingress.close(group.proposer);
        }
        if (newRole == Cluster.Role.CANDIDATE) {
            knowsLeader = false;
        }
    }

    @Override
    public void onNewLeadershipTermEvent(
            long leadershipTermId,
            long logPosition,
            long timestamp,
            long termBaseLogPosition,
            int leaderMemberId,
            int logSessionId,
            TimeUnit timeUnit,
            int appVersion) {
        knowsLeader = true;
    }

    @Override
    public void onTerminate(Cluster cluster) {
        ingress.close(group.proposer);
    }

    @Override
    public void onSessionOpen(ClientSession session, long timestamp) {}

    @Override
    public void onSessionClose(ClientSession session, long timestamp, CloseReason closeReason) {}

    @Override
    public void onTimerEvent(long correlationId, long timestamp) {}

    @Override
    public void onTakeSnapshot(ExclusivePublication snapshotPublication) {}
}
