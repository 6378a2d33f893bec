package peers.common;

import java.util.List;
import java.util.concurrent.locks.LockSupport;

/** Pumps the groups of an engine that has no thread for it: when an operation is due, and now and then. */
final class Pacer implements Runnable {
    private static final long LONGEST_SLEEP_NS = 1_000_000;
    /** A shorter sleep costs more than it gains: the kernel's timer slack is 50 µs. */
    private static final long SHORTEST_SLEEP_NS = 50_000;

    private final List<Group> groups;

    Pacer(List<Group> groups) {
        this.groups = groups;
    }

    void start() {
        Thread thread = new Thread(this, "pacer");
        thread.setDaemon(true);
        thread.start();
    }

    @Override
    public void run() {
        while (true) {
            double sleepNs = LONGEST_SLEEP_NS;
            for (Group group : groups) {
                group.proposer.pump();
                sleepNs = Math.min(sleepNs, group.proposer.dueInNs(System.nanoTime()));
            }
            LockSupport.parkNanos(Math.max(SHORTEST_SLEEP_NS, (long) sleepNs));
        }
    }
}
