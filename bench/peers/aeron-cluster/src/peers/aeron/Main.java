package peers.aeron;

import peers.common.Node;

public final class Main {
    private Main() {}

    public static void main(String[] words) {
        Node.main(words, AeronEngine::new);
    }
}
