package peers.common;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Random;

/** Payloads of one size: a number, then filler that doesn't compress. */
public final class Payloads {
    private static final long SEED = 1;

    private final byte[] filler;

    public Payloads(int size) {
        filler = new byte[size];
        new Random(SEED).nextBytes(filler);
    }

    /** A new payload. */
    public ByteBuffer make(long number) {
        ByteBuffer payload = ByteBuffer.wrap(filler.clone());
        return payload.order(ByteOrder.LITTLE_ENDIAN).putLong(0, number).order(ByteOrder.BIG_ENDIAN);
    }

    /** What every payload has, but for its first eight bytes. */
    public byte[] filler() {
        return filler.clone();
    }
}
