package peers.aeron;

import io.aeron.Aeron;
import io.aeron.cluster.client.AeronCluster;
import io.aeron.cluster.client.EgressListener;
import io.aeron.exceptions.TimeoutException;
import java.nio.ByteOrder;
import org.agrona.concurrent.UnsafeBuffer;
import peers.common.Arguments;
import peers.common.Payloads;
import peers.common.Proposer;

/**
 * A client session of the leader's own process, over shared memory. Used by the service's thread only.
 * Messages of a session come out of the log in the order in which they were offered, so that a ring of
 * starting times tells each one's latency.
 */
final class Ingress {
    private static final long KEEP_ALIVE_NS = 1_000_000_000L;
    private static final long CONDUCTOR_NS = 1_000_000L;
    private static final long NO_SESSION = -1;

    private final String aeronDir;
    private final UnsafeBuffer payload;
    private final long[] startsNs;
    private Aeron aeron;
    private AeronCluster.AsyncConnect connecting;
    private AeronCluster cluster;
    private volatile boolean connected;
    private long sessionId = NO_SESSION;
    private long oldest;
    private long next;
    private long keepAliveDueNs;
    private long conductorDueNs;

    Ingress(Arguments arguments, String aeronDir) {
        this.aeronDir = aeronDir;
        payload = new UnsafeBuffer(new Payloads(arguments.payload).filler());
        startsNs = new long[Integer.highestOneBit(arguments.inflight) * 2];
    }

    boolean isConnected() {
        return connected;
    }

    /** Connects when needed and keeps the session alive. */
    void poll(long nowNs) {
        if (cluster == null) {
            connect();
            return;
        }
        cluster.pollEgress();
        if (nowNs - conductorDueNs >= 0) {
            aeron.conductorAgentInvoker().invoke();
            conductorDueNs = nowNs + CONDUCTOR_NS;
        }
        if (nowNs - keepAliveDueNs >= 0) {
            cluster.sendKeepAlive();
            keepAliveDueNs = nowNs + KEEP_ALIVE_NS;
        }
    }

    boolean offer(long number, long startNs) {
        payload.putLong(0, number, ByteOrder.LITTLE_ENDIAN);
        if (cluster.offer(payload, 0, payload.capacity()) < 0) {
            return false;
        }
        if (oldest == next) {
            oldest = number;
        }
        startsNs[(int) number & startsNs.length - 1] = startNs;
        next = number + 1;
        return true;
    }

    /** A message of the log, committed and applied. */
    void applied(long session, long number, Proposer proposer) {
        if (session != sessionId) {
            return;
        }
        for (; oldest < number; oldest++) {
            proposer.lost("operation " + oldest + " was dropped before the log");
        }
        oldest = number + 1;
        proposer.acknowledged(startsNs[(int) number & startsNs.length - 1]);
    }

    /** The node no longer leads: nobody knows what becomes of what is in flight. */
    void close(Proposer proposer) {
        connected = false;
        sessionId = NO_SESSION;
        for (; oldest < next; oldest++) {
            proposer.lost("operation " + oldest + " was in flight when the leader stepped down");
        }
        if (connecting != null) {
            connecting.close();
            connecting = null;
        }
        if (cluster != null) {
            cluster.close();
            cluster = null;
        }
        if (aeron != null) {
            aeron.close();
            aeron = null;
        }
    }

    private void connect() {
        try {
            if (connecting == null) {
                aeron = Aeron.connect(new Aeron.Context()
                        .aeronDirectoryName(aeronDir)
                        .useConductorAgentInvoker(true));
                connecting = AeronCluster.asyncConnect(new AeronCluster.Context()
                        .aeron(aeron)
                        .ownsAeronClient(false)
                        .ingressChannel(AeronEngine.INGRESS_CHANNEL)
                        .egressChannel("aeron:ipc?term-length=64k")
                        .isIngressExclusive(true)
                        .egressListener(ignoreEgress()));
            }
            cluster = connecting.poll();
        } catch (TimeoutException e) {
            System.err.println("no session with the own node yet: " + e.getMessage());
            connecting.close();
            aeron.close();
            connecting = null;
        }
        if (cluster != null) {
            connecting = null;
            sessionId = cluster.clusterSessionId();
            connected = true;
        }
    }

    /** The service answers within the process, not over the session. */
    private static EgressListener ignoreEgress() {
        return (session, timestamp, buffer, offset, length, header) -> {};
    }
}
