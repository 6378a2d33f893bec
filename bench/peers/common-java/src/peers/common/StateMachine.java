package peers.common;

/**
 * Counts a group's operations and mixes their numbers in the order of the log. One thread applies;
 * others may look.
 */
public final class StateMachine {
    private static final long MULTIPLIER = 0x9E3779B97F4A7C15L;

    private long count;
    private long hash;

    private long publishedCount;
    private long publishedHash;

    public void apply(long number) {
        hash = (Long.rotateLeft(hash, 5) ^ number) * MULTIPLIER;
        count++;
    }

    /** Shows to other threads what was applied so far; once a batch, as it costs a lock. */
    public synchronized void publish() {
        publishedCount = count;
        publishedHash = hash;
    }

    synchronized long publishedCount() {
        return publishedCount;
    }

    synchronized long publishedHash() {
        return publishedHash;
    }
}
