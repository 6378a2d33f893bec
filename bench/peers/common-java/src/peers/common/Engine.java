package peers.common;

import java.util.List;
import java.util.Map;

/** What a peer binds to the load: its replicated log, with this process as one node of it. */
public interface Engine {
    String name();

    String version();

    /** Whether what is acknowledged is on the disks of a majority. */
    boolean durable();

    /** What the engine runs with, for the record. */
    Map<String, String> settings();

    /** Opens the log and listens. The engine applies to the groups' state machines from then on. */
    void open(List<Group> groups) throws Exception;

    boolean leads(Group group);

    boolean knowsLeader(Group group);

    /**
     * Hands an operation to the log without waiting. The engine calls back one of the proposer's
     * methods for it when it is done, from any thread but never from inside this call.
     *
     * @param startNs to be given back with the operation's end
     * @return false if a limit of the engine puts it off
     */
    boolean propose(Group group, long number, long startNs);

    /** Whether the engine calls {@link Proposer#pump} from a thread of its own at least each millisecond. */
    boolean pumps();

    void close() throws Exception;
}
