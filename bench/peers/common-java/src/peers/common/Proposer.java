package peers.common;

import java.util.ArrayList;
import java.util.List;
import org.HdrHistogram.Histogram;

/**
 * Keeps a group loaded while this node leads it: with a fixed number of operations in flight (closed
 * loop), or with operations that become due at a rate, of which no more than that number are in
 * flight (open loop).
 */
public final class Proposer {
    private static final int HISTOGRAM_DIGITS = 3;
    private static final int MESSAGES = 5;
    private static final double NS_PER_SECOND = 1e9;

    private final Group group;
    private final Engine engine;
    private final int room;
    /** 0 in a closed loop. */
    private final double intervalNs;

    private boolean running;
    private boolean counting;
    private boolean led;
    private double dueNs;
    private int inFlight;
    private long nextNumber;
    private long lastPutOff = -1;

    private final Histogram latencies = new Histogram(HISTOGRAM_DIGITS);
    private long acknowledged;
    private long errors;
    private long unknown;
    private long busy;
    private final List<String> messages = new ArrayList<>();

    Proposer(Group group, Engine engine, int room, double rate) {
        this.group = group;
        this.engine = engine;
        this.room = room;
        intervalNs = rate == 0 ? 0 : NS_PER_SECOND / rate;
    }

    /**
     * Proposes what there is room for and is due. Any thread.
     *
     * @return how many operations that were
     */
    public synchronized int pump() {
        if (!running || inFlight == room) {
            return 0;
        }
        boolean leads = engine.leads(group);
        if (leads && !led) {
            // Nothing was due at this node while another one led.
            dueNs = System.nanoTime();
        }
        led = leads;
        int proposed = 0;
        while (leads && inFlight < room) {
            long now = System.nanoTime();
            if (intervalNs != 0 && dueNs > now) {
                break;
            }
            if (!engine.propose(group, nextNumber, intervalNs == 0 ? now : (long) dueNs)) {
                if (lastPutOff != nextNumber) {
                    lastPutOff = nextNumber;
                    busy++;
                }
                break;
            }
            nextNumber++;
            inFlight++;
            proposed++;
            dueNs += intervalNs;
        }
        return proposed;
    }

    /** An operation is durable on a majority and applied here. Doesn't propose the next one. */
    public synchronized void acknowledged(long startNs) {
        inFlight--;
        acknowledged++;
        if (counting) {
            latencies.recordValue(Math.max(1, System.nanoTime() - startNs));
        }
    }

    /** An operation is known not to have happened. */
    public synchronized void failed(String message) {
        inFlight--;
        errors++;
        remember(message);
    }

    /** Nobody knows whether an operation happened or will. */
    public synchronized void lost(String message) {
        inFlight--;
        unknown++;
        remember(message);
    }

    /** A limit of the engine refused an operation after it was taken; it is known not to have happened. */
    public synchronized void refused() {
        inFlight--;
        busy++;
    }

    /** How long after now the next operation is due, in an open loop. */
    synchronized double dueInNs(long now) {
        return running && led && inFlight < room ? dueNs - now : Double.MAX_VALUE;
    }

    synchronized void load() {
        running = true;
    }

    synchronized void measure() {
        latencies.reset();
        counting = true;
    }

    synchronized void stopCounting() {
        counting = false;
        running = false;
    }

    synchronized boolean isIdle() {
        return inFlight == 0;
    }

    synchronized void addTo(Totals totals) {
        totals.latencies.add(latencies);
        totals.errors += errors;
        totals.unknown += unknown + inFlight;
        totals.busy += busy;
        totals.proposed += nextNumber;
        totals.acknowledged += acknowledged;
        totals.messages.addAll(messages);
    }

    private void remember(String message) {
        if (messages.size() < MESSAGES) {
            messages.add("group " + group.number + ": " + message);
        }
    }

    /** The sums over all groups. */
    static final class Totals {
        final Histogram latencies = new Histogram(HISTOGRAM_DIGITS);
        long errors;
        long unknown;
        long busy;
        long proposed;
        long acknowledged;
        final List<String> messages = new ArrayList<>();
    }
}
